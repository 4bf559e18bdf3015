"""What a project may say of a task where it declares it, and what of that makes no sense."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Any, Literal, NoReturn, TypedDict, TypeVar

from pg_queue.domain import DEFAULT_PRIORITY
from pg_queue.settings import queue_settings
from pg_queue.tasks.expiry import span_of
from pg_queue.tasks.uniqueness import Spec
from pg_queue.tasks.validation import Validation

LONGEST_DELAY_SECONDS = 3653 * 86400.0
"""Ten years: a later instant is a mistake, and one past the year 9999 could not be read back."""
MOST_ATTEMPTS = 32767
"""What a message's column holds."""

Member = TypeVar("Member", bound=StrEnum)
Errors = tuple[type[BaseException], ...]


class Delivery(StrEnum):
    """What a worker's death makes of an execution that had begun."""

    AT_LEAST_ONCE = "at_least_once"
    """It is begun again: settled after the task has run."""
    AT_MOST_ONCE = "at_most_once"
    """It is never begun a second time: its only attempt is used up, in the store, before the task runs."""


class Kept(StrEnum):
    """What stays of a message that has succeeded."""

    VALUE = "value"
    """What the task returned."""
    STATE = "state"
    """That it succeeded."""
    NONE = "none"
    """Nothing, where nobody needs the end; see `pg_queue.domain.Success.keep`."""


class Backoff(StrEnum):
    """How the delay before an attempt grows."""

    FIXED = "fixed"
    """Always the first delay."""
    LINEAR = "linear"
    """The first delay times the attempts so far."""
    EXPONENTIAL = "exponential"
    """Doubled for each attempt."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """When a failed execution is tried again, as long as attempts are left; and after how long."""

    backoff: Backoff = Backoff.EXPONENTIAL
    base_seconds: float | None = None
    """Delay before the second attempt; None: `PG_QUEUE["RETRY_BACKOFF_SECONDS"]`."""
    cap_seconds: float | None = None
    """No delay is longer, its jitter included; None: `PG_QUEUE["RETRY_BACKOFF_MAX_SECONDS"]`."""
    jitter: float = 0.25
    """A delay is up to this share longer, by chance: what failed together does not come back together."""
    retry_on: Errors | None = None
    """Only these errors and their subclasses are tried again; None: every error."""
    never_on: Errors = ()
    """These and their subclasses are not, whatever `retry_on` says."""

    def delay(self, attempts: int) -> timedelta:
        """How long the next attempt waits after so many."""
        conf = queue_settings()
        base = conf.retry_backoff_seconds if self.base_seconds is None else self.base_seconds
        cap = conf.retry_backoff_max_seconds if self.cap_seconds is None else self.cap_seconds
        jittered = base * self._growth(attempts) * random.uniform(1, 1 + self.jitter)
        return bounded(min(jittered, cap))

    def permits(self, raised: BaseException) -> bool:
        """Whether this error may be tried again."""
        if isinstance(raised, self.never_on):
            return False
        return self.retry_on is None or isinstance(raised, self.retry_on)

    def _growth(self, attempts: int) -> float:
        if self.backoff is Backoff.FIXED:
            return 1
        if self.backoff is Backoff.LINEAR:
            return max(1, attempts)
        return 2.0 ** min(max(0, attempts - 1), 60)


class TaskOptions(TypedDict, total=False):
    """What `@task` takes besides the name; `TaskInfo` and `RetryPolicy` say what each means."""

    queue: str
    priority: int
    max_attempts: int | None
    retry_backoff_seconds: float | None
    retry_backoff_max_seconds: float | None
    backoff: Literal["fixed", "linear", "exponential"]
    retry_jitter: float
    retry_on: type[BaseException] | Errors | None
    never_on: type[BaseException] | Errors
    delivery: Literal["at_least_once", "at_most_once"]
    expires: timedelta | float | None
    unique: Spec
    unique_for: timedelta | float | None
    validate: Literal["none", "inputs", "outputs", "strict"]
    time_limit_seconds: float | None
    soft_time_limit_seconds: float | None
    result: Literal["value", "state", "none"]
    keep_result: bool


def declared(name: str, given: TaskOptions) -> dict[str, Any]:
    """The fields of `TaskInfo` that these options stand for.

    Raises: ValueError naming the task, the option, what was expected and what was got; TypeError for an unknown one.
    """
    options = Options(name, given)
    once = options.one_of("delivery", Delivery.AT_LEAST_ONCE) is Delivery.AT_MOST_ONCE
    if once:
        options.refuse_any(_RETRYING, "none for a task that is delivered at_most_once: nothing is retried")
    limit = options.number("time_limit_seconds", above=0)
    kept = _kept(options)
    return {
        "queue": options.get("queue", "default"),
        "priority": options.get("priority", DEFAULT_PRIORITY),
        "max_attempts": _attempts(options, once),
        "retry": _retry_policy(options),
        "delivery": Delivery.AT_MOST_ONCE if once else Delivery.AT_LEAST_ONCE,
        "expires": _expires(options),
        "validate": options.one_of("validate", Validation.NONE),
        "time_limit_seconds": limit,
        "soft_time_limit_seconds": options.number("soft_time_limit_seconds", above=0, below=limit),
        "keep_result": kept is Kept.VALUE,
        "keep_state": kept is not Kept.NONE,
    }


def declared_hold(name: str, given: TaskOptions) -> timedelta | None:
    """How long after its end a message of this task stands for its like; None: each is a message of its own.

    Raises: ValueError.
    """
    options = Options(name, given)
    if options.get("unique", False) is False:
        if options.get("unique_for") is not None:
            options.refuse("unique_for", "None without unique")
        return None
    hold = options.get("unique_for")
    span = timedelta() if hold is None else span_of(hold)
    if span is None:
        options.refuse("unique_for", "a timedelta or a number of seconds, 0 or more, or None")
    return span


def bounded(seconds: float) -> timedelta:
    """A delay of so many seconds, 0 or more, that an instant can be told of."""
    return timedelta(seconds=min(max(0.0, seconds), LONGEST_DELAY_SECONDS))


_RETRYING = (
    "retry_backoff_seconds",
    "retry_backoff_max_seconds",
    "backoff",
    "retry_jitter",
    "retry_on",
    "never_on",
)


class Options:
    """The options of one task, asked for one by one; each is refused by name where it makes no sense."""

    def __init__(self, name: str, given: Mapping[str, Any]) -> None:
        if unknown := sorted(given.keys() - TaskOptions.__annotations__.keys()):
            known = ", ".join(sorted(TaskOptions.__annotations__))
            raise TypeError(f"task {name!r}: expected one of the options {known}, got: {unknown[0]!r}")
        self._name, self._given = name, given

    def get(self, option: str, default: Any = None) -> Any:
        """The option as it was given."""
        return self._given.get(option, default)

    def number(self, option: str, *, above: float = -math.inf, below: float | None = None) -> float | None:
        """A number of seconds, 0 or more, or None. `above` and `below` are not permitted themselves."""
        value = self.get(option)
        if value is None:
            return None
        least = f"above {above:g}" if above >= 0 else "0 or more"
        if not _is_number(value) or not max(0, above) <= value <= LONGEST_DELAY_SECONDS or value == above:
            self.refuse(option, f"a number of seconds, {least}, or None")
        if below is not None and value >= below:
            self.refuse(option, f"less than {below:g} seconds")
        return float(value)

    def flag(self, option: str, default: bool) -> bool:
        """A boolean."""
        value = self.get(option, default)
        if not isinstance(value, bool):
            self.refuse(option, "True or False")
        return bool(value)

    def one_of(self, option: str, default: Member) -> Member:
        """A member of the enumeration that the default is of."""
        kind = type(default)
        try:
            return kind(self.get(option, default))
        except ValueError:
            self.refuse(option, f"one of {', '.join(kind)}")

    def errors(self, option: str, default: Errors | None) -> Errors | None:
        """Classes of exceptions; one alone will do."""
        value = self.get(option, default)
        if value is None:
            return default
        found = value if isinstance(value, (tuple, list)) else (value,)
        if not all(isinstance(one, type) and issubclass(one, BaseException) for one in found):
            self.refuse(option, "exception classes")
        return tuple(found)

    def refuse_any(self, names: tuple[str, ...], expected: str) -> None:
        """Refuse the first of these options that was given at all."""
        for option in names:
            if option in self._given:
                self.refuse(option, expected)

    def refuse(self, option: str, expected: str) -> NoReturn:
        """Raises: ValueError."""
        raise ValueError(f"task {self._name!r}: {option}: expected {expected}, got: {self.get(option)!r}")


def _attempts(options: Options, once: bool) -> int | None:
    value = options.get("max_attempts")
    if value is not None and not (_is_number(value) and isinstance(value, int) and 1 <= value <= MOST_ATTEMPTS):
        options.refuse("max_attempts", f"an integer from 1 to {MOST_ATTEMPTS}, or None")
    if not once:
        return value
    if value not in (None, 1):
        options.refuse("max_attempts", "1, or none, for a task that is delivered at_most_once")
    return 1


def _kept(options: Options) -> Kept:
    """`keep_result=False` is an older word for `state`."""
    kept = options.one_of("result", Kept.VALUE)
    if options.flag("keep_result", True):
        return kept
    if options.get("result") is not None:
        options.refuse("result", "it without keep_result=False")
    return Kept.STATE


def _expires(options: Options) -> timedelta | None:
    value = options.get("expires")
    span = None if value is None else span_of(value)
    if value is not None and not span:
        options.refuse("expires", "a timedelta or a number of seconds above 0, or None")
    return span


def _retry_policy(options: Options) -> RetryPolicy:
    retry_on, never_on = options.errors("retry_on", None), options.errors("never_on", ()) or ()
    if retry_on == ():
        options.refuse("retry_on", "at least one exception class, or None for all of them")
    if retry_on is not None and all(issubclass(one, never_on) for one in retry_on):
        options.refuse("retry_on", "an exception class that never_on does not rule out")
    jitter = options.get("retry_jitter", RetryPolicy().jitter)
    if not _is_number(jitter) or not 0 <= jitter <= 1:
        options.refuse("retry_jitter", "a share from 0 to 1")
    base, cap = options.number("retry_backoff_seconds"), options.number("retry_backoff_max_seconds")
    if base is not None and cap is not None and base > cap:
        options.refuse("retry_backoff_seconds", f"at most the {cap:g} of retry_backoff_max_seconds")
    return RetryPolicy(
        backoff=options.one_of("backoff", Backoff.EXPONENTIAL),
        base_seconds=base,
        cap_seconds=cap,
        jitter=float(jitter),
        retry_on=retry_on,
        never_on=never_on,
    )


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
