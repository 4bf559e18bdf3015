"""The contract of a source: a broker from which messages are taken, and acknowledged later."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from kombu import Connection

from pg_queue.errors import QueueError

MOST_BYTES = 16 << 20
"""Of messages that are taken at once, after which no more are asked for."""


class BrokerUnavailable(QueueError):
    """The source does not answer, or has closed the connection. What was taken and not acknowledged goes back there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """A message that was taken and not acknowledged, or one that stays where it is since no one can read it."""

    queue: str
    tag: str | int
    """How the source knows it."""
    payload: Mapping[str, Any] | None = None
    """As kombu publishes it: `body` (text or bytes), `content-type`, `content-encoding`, `headers`, `properties`; with
    the priority as RabbitMQ counts, or None. None: it is no message of kombu's, and was not taken."""
    is_first: bool = False
    """The source guarantees that it has never been handed over: it cannot be known."""
    has_own_tag: bool = False
    """The tag was given to this message alone, for ever."""

    @property
    def key(self) -> tuple[str, str | int]:
        """By which it is told apart from others that are held."""
        return self.queue, self.tag


class Source(Protocol):
    """One connection to the broker. All methods raise BrokerUnavailable; after that, only `close` may be called."""

    remember_seconds: float
    """For how long a delivery must be known, so that it can be told when it comes again."""

    def waiting(self, queue: str) -> int | None:
        """How many messages wait in the queue, held ones not counted; None: there is no such queue."""

    def held(self) -> int | None:
        """How many messages other consumers hold, of all queues; None: the broker does not say."""

    def take(self, queue: str, *, limit: int) -> list[Delivery]:
        """The next messages, oldest first, at most `limit`, fewer where they are large; and, not counted, those that no
        one can read."""

    def acknowledge(self, deliveries: Sequence[Delivery]) -> None:
        """Let the source forget these."""

    def tend(self) -> None:
        """When nothing is to be taken: let those wait again whose consumers have vanished, where that is our part."""

    def close(self) -> None:
        """Give back what is not acknowledged, to its old place where the broker can, and leave. Raises nothing."""


@contextmanager
def speaking(connection: Connection) -> Iterator[None]:
    """Within: what goes wrong between us and the broker is `BrokerUnavailable`."""
    errors: tuple[type[BaseException], ...] = (*connection.connection_errors, *connection.channel_errors, OSError)
    try:
        yield
    except errors as error:
        raise BrokerUnavailable(str(error) or type(error).__name__) from error
