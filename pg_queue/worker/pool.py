"""What a worker's loop and what runs its tasks expect of each other. `pools` has one module for each kind.

The loop claims, settles and renews, listens and drains; it knows nothing of where a task runs. A pool runs what it is
handed and tells the books what became of it; it knows nothing of the store. Both live in one thread, the loop's: a pool
whose tasks run elsewhere has what they say brought to `turn` by a descriptor that it registers.
"""

from __future__ import annotations

import selectors
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol
from uuid import UUID

from pg_queue.domain import Claim
from pg_queue.settings import QueueSettings
from pg_queue.worker.books import Books
from pg_queue.worker.options import WorkerOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """What the loop lends to its pool."""

    options: WorkerOptions
    conf: QueueSettings
    books: Books
    """Where the pool says what became of each claim: `report`, `give_back` or `write_off`, once each."""
    selector: selectors.BaseSelector
    """Waits for the pool's descriptors too; what is registered with them is called, without arguments, when they are
    ready. `turn` follows once all were called."""
    wake: Callable[[], None]
    """Ends the loop's wait, from any thread."""


class Pool(Protocol):
    """Runs tasks. All of it is called in the loop's thread."""

    stop_seconds: ClassVar[float]
    """How long the loop waits, when the drain is over, for what is stopped then; what goes on after it is left behind.
    """

    @property
    def is_alive(self) -> bool:
        """False while what all tasks share does not answer."""
        ...

    @property
    def busy(self) -> int:
        """Claims that were taken, of which the books have not been told."""
        ...

    @property
    def process_ids(self) -> Sequence[int]:
        """The processes that it has besides the worker's own. Safe from any thread, as `busy` is."""
        ...

    def room(self) -> int:
        """How many more claims are to be handed over now; 0 too while it is not worth a statement yet."""
        ...

    def start(self) -> None:
        """Begin. Called once, before everything else."""
        ...

    def take(self, claims: Sequence[Claim]) -> None:
        """Run these, at most `room`, in this order as far as there is one."""
        ...

    def turn(self) -> None:
        """Tell the books what has ended, enforce limits, replace what is gone. Called after each wait."""
        ...

    def deadlines(self, now: float) -> Iterator[float]:
        """The instants (`time.monotonic`) at which `turn` has something to do without having been woken."""
        ...

    def lose(self, tokens: Collection[UUID]) -> None:
        """Somebody else has these claims now, or their messages were cancelled: their executions are to stop."""
        ...

    def drain(self, *, is_over: bool) -> None:
        """Give back what has not begun. With `is_over`, stop what runs. Called again and again while it drains."""
        ...

    def reload(self) -> None:
        """Load the project's code anew for what has not begun, as far as that is possible."""
        ...

    def close(self) -> None:
        """End, whatever still runs."""
        ...

    def details(self) -> Mapping[str, Any]:
        """What `/readyz` says of it."""
        ...


PoolFactory = Callable[[Desk], Pool]
