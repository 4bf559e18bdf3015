"""Everything the queue raises on purpose. One tree, so that a caller can catch all of it by `QueueError`."""

from __future__ import annotations


class QueueError(Exception):
    """The root of the queue's own errors."""


class InvalidMessage(QueueError, ValueError):
    """A message was refused where it was written: nothing was stored.

    `field` names the part, `expected` says what would be accepted, `got` is the refused value (shortened).
    """

    def __init__(self, *, field: str, expected: str, got: object) -> None:
        self.field = field
        self.expected = expected
        self.got = got
        super().__init__(f"{field}: expected {expected}, got: {_shorten(got)}")


class PayloadNotJSON(InvalidMessage):
    """A payload or a result holds what JSON cannot: a datetime, a set, NaN, NUL in a string."""


class PayloadTooLarge(InvalidMessage):
    """A payload or a result is larger than the configured bound, in bytes of UTF-8 JSON."""


class InvalidArguments(InvalidMessage):
    """An argument is not what its task's type hint says. `expected` names the argument, and the way into it."""


class UnknownTask(QueueError, LookupError):
    """No registered task has this name, so nothing may be enqueued or run under it."""

    def __init__(self, name: str, known: tuple[str, ...] = ()) -> None:
        self.name = name
        hint = f"; did you mean {', '.join(known)}?" if known else ""
        super().__init__(f"task: expected the name of a registered task, got: {name!r}{hint}")


class RetryLater(QueueError):
    """Raised by a task to be run again after `delay_seconds` (None: its backoff), as long as attempts are left.

    At least 0 and at most ten years; what is no number counts as None.
    Raise it `from` the cause: the cause is what the message's error then names.
    """

    def __init__(self, reason: str = "", *, delay_seconds: float | None = None) -> None:
        self.delay_seconds = delay_seconds
        super().__init__(reason or "the task asked to be run again")


class GiveUp(QueueError):
    """Raised by a task that must not be run again: the message becomes a dead letter at once."""


class SoftTimeLimitExceeded(QueueError):
    """Raised in a task that has run for longer than its soft time limit: it may tidy up, and should end soon.

    Where it passes through, the execution has failed as with any other error.
    """


class CanvasRefused(GiveUp):
    """A Celery task asked for what its message, or the project's settings, cannot give it: nothing was sent."""


class TransactionLeftOpen(QueueError):
    """A Celery task returned inside a transaction that it had begun: nothing of that was committed."""


class Configuration(QueueError):
    """A setting is wrong. The message says which key, what was expected and what was got."""


class CapabilityMissing(QueueError):
    """The store cannot do what was asked of it: nothing was done."""

    def __init__(self, store: str, capability: str) -> None:
        self.store = store
        self.capability = capability
        super().__init__(f"expected a store that has '{capability}', got: the store {store!r}, which has not")


class StoreUnavailable(QueueError):
    """The store cannot be reached, or did not answer in time. Whether the operation was done is not known."""


class UnknownMessage(QueueError, LookupError):
    """No message of this id is there: there never was, or its outcome has been deleted."""

    def __init__(self, message_id: object) -> None:
        self.message_id = message_id
        super().__init__(f"expected the id of a message that is kept, got: {message_id}")


class WaitedTooLong(QueueError, TimeoutError):
    """The message had not ended when the caller's patience did."""


class ResultNotKept(QueueError):
    """Somebody asked for a value that nobody keeps: its task is fire-and-forget, or its time to live is over."""


class ResultNotReady(QueueError):
    """Somebody asked for the value of a message that has no end yet."""


class ResultsUnavailable(QueueError):
    """The store of results cannot be asked now: whether it has a result is not known. Try again later."""


class ResultRefused(QueueError):
    """The store of results can be reached, and cannot hold what it was given: it would refuse it again."""


class TaskFailed(QueueError):
    """The message's last execution failed. `type`, `message` and `traceback` are those of what its task raised."""

    def __init__(self, *, type: str, message: str, traceback: str = "") -> None:
        self.type, self.message, self.traceback = type, message, traceback
        super().__init__(f"{type}: {message}")


class DutyFailed(QueueError):
    """A round of the reaper's duties was not done in full. The message names the duties and what they raised."""


class LeadershipLost(QueueError):
    """The session no longer holds the lead: nothing of the current transaction may be committed."""


class DirectConnectionRequired(QueueError):
    """The connection goes through a transaction-pooling proxy, where session locks and LISTEN cannot work."""


def _shorten(value: object, limit: int = 120) -> str:
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001 - too deep, too long a number, or broken: that is why it is refused
        return f"a value of type {type(value).__name__} that cannot be shown"
    return text if len(text) <= limit else f"{text[: limit - 1]}…"
