"""What becomes of one due schedule, decided in Python by the rules of `sql/postgres/tick.sql`, name by name. Pure.

The tests of the tick hold both to the same outcomes.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from math import ceil

from scheduler.domain import CatchUp, Hold, Overlap, RunState, ScheduleKind
from scheduler.recurrence.intervals import LONGEST, SHORTEST
from scheduler.tick.contract import EARLIEST
from scheduler.verdicts import Question, Verdict

_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """A due schedule, as far as it decides."""

    kind: str
    cron_string: str
    timezone: str
    dialect: str
    due_at: datetime
    ends_at: datetime | None
    beat_from: datetime | None
    make_up_until: datetime | None
    grace_seconds: int | None
    catch_up: str
    overlap: str
    interval_seconds: float | None
    is_last: bool
    """Once more, and it was fired as often as it may be."""
    is_blocked: bool
    """Its overlap policy asks, and the run before has not ended."""

    @property
    def is_over(self) -> bool:
        """Its end has come before its occurrence."""
        return self.ends_at is not None and self.ends_at <= self.due_at

    @property
    def is_beats(self) -> bool:
        """It is handed back, and its next occurrence is Beat's."""
        return self.beat_from is not None and self.beat_from < self.due_at

    @property
    def is_past(self) -> bool:
        """There is no occurrence to decide on."""
        return self.is_over or self.is_beats


@dataclass(frozen=True, slots=True, kw_only=True)
class Circumstances:
    """What decides besides the row."""

    at: datetime
    """The instant of the pass."""
    grace_seconds: int
    """Where the row has none of its own."""
    on_time_seconds: int
    led_until: datetime | None
    """From then on until `leads_since` nobody led; None: nobody ever did before."""
    leads_since: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """Occurrences that were not fired."""

    first: datetime
    last: datetime | None
    """None: it is a single one."""
    occurrences: int | None
    state: RunState


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What becomes of a due schedule. `stretch` and `next_run_at` tell what is written."""

    due: Due
    circumstances: Circumstances
    catch_up: str
    """The policy that counts."""
    latest: datetime | None = None
    before: datetime | None = None
    next: datetime | None = None
    missed: int | None = 0
    is_in_grace: bool = False
    """The latest occurrence is not too late to be fired."""
    is_taken: bool = False
    """The ledger has it already."""
    error: str | None = None

    @property
    def is_alive(self) -> bool:
        """There is an occurrence to decide on."""
        return self.error is None and not self.due.is_past

    @property
    def is_held(self) -> bool:
        """It waits until the run before has ended."""
        return self.is_in_grace and self.due.is_blocked and self.due.overlap == Overlap.QUEUE

    @property
    def is_skipped(self) -> bool:
        """It is not fired, because the run before has not ended."""
        return self.is_in_grace and self.due.is_blocked and self.due.overlap == Overlap.SKIP

    @property
    def is_clear(self) -> bool:
        """It is fired, unless the ledger has it already."""
        return self.is_in_grace and not self.due.is_blocked

    @property
    def is_fired(self) -> bool:
        """A message is enqueued."""
        return self.is_clear and not self.is_taken

    @property
    def next_run_at(self) -> datetime | None:
        """The first occurrence that is not decided yet."""
        if self.error is not None or self.is_held or (self.due.is_beats and not self.due.is_over):
            return self.due.due_at
        if (self.is_fired and self.due.is_last) or self.due.is_over or self.next is None:
            return None
        return self.next if self.due.ends_at is None or self.next < self.due.ends_at else None

    @property
    def hold(self) -> Hold | None:
        """Why it is left alone from now on."""
        if self.is_held:
            return Hold.OVERLAP
        is_beats = self.due.is_beats or (self.error is None and _is_after(self.next, self.due.beat_from))
        return Hold.HANDOVER if is_beats else None

    @property
    def stretch(self) -> Stretch | None:
        """What lies before the occurrence that is fired, or is not fired at all; None: nothing.

        Of a run that was missed, the reason is the catch-up policy's; of one that was due and could not be fired, the
        window's or the overlap policy's.
        """
        if not self.is_alive or self.is_held:
            return None
        is_before_fired = self.is_in_grace and not self.is_skipped
        last = self.before if is_before_fired else self.latest
        if last is None:
            return None
        count = self.missed if is_before_fired or self.missed is None else self.missed + 1
        first = self.due.due_at
        return Stretch(
            first=first,
            last=None if last == first else last,
            occurrences=count,
            state=self._reason(last, is_before_fired=is_before_fired),
        )

    def _reason(self, last: datetime, *, is_before_fired: bool) -> RunState:
        if self.is_skipped:
            return RunState.SKIPPED
        if is_before_fired and self.catch_up == CatchUp.LATEST:
            return RunState.COALESCED
        led_until = self.circumstances.led_until
        is_leaderless = led_until is None or self.due.due_at >= led_until
        return RunState.NO_LEADER if is_leaderless and last <= self.circumstances.leads_since else RunState.EXPIRED


def question_of(due: Due, given: Circumstances) -> Question | None:
    """What is to be evaluated for the decision; None: nothing is."""
    if due.kind == ScheduleKind.INTERVAL or due.due_at < EARLIEST or due.is_past:
        return None
    since = max(due.due_at, _window_start(due, given)) if _catch_up(due) == CatchUp.ALL else None
    return Question(due.kind, due.cron_string, due.timezone, due.dialect, due.due_at, _base(due, given), since)


def decide(due: Due, verdict: Verdict | None, given: Circumstances) -> Decision:
    """Decide, with the verdict on `question_of` where that is a question.

    Raises:
        OverflowError: its next occurrence is further ahead than Python can tell.
    """
    catch_up = _catch_up(due)
    found = _lay_out(due, given, catch_up) if due.kind == ScheduleKind.INTERVAL else verdict or Verdict()
    error = None if due.is_past else _complaint(due) or found.error
    window_start = _window_start(due, given)
    if catch_up == CatchUp.NONE:
        window_start = max(window_start, given.at - timedelta(seconds=given.on_time_seconds))
    return Decision(
        due=due,
        circumstances=given,
        catch_up=catch_up,
        latest=found.latest,
        before=found.before,
        next=found.next,
        missed=found.missed,
        is_in_grace=error is None and not due.is_past and found.latest is not None and found.latest >= window_start,
        error=error,
    )


def _is_after(instant: datetime | None, bound: datetime | None) -> bool:
    return instant is not None and bound is not None and instant > bound


def _complaint(due: Due) -> str | None:
    if due.due_at < EARLIEST:
        return f"next_run_at: expected an instant after {EARLIEST}, got: {due.due_at}"
    shortest, longest = SHORTEST.total_seconds() / 1000, LONGEST.total_seconds()
    if due.kind == ScheduleKind.INTERVAL and not _is_period(due.interval_seconds):
        return f"interval_seconds: expected from {shortest} to {longest:.0f}, got: {due.interval_seconds}"
    return None


def _is_period(seconds: float | None) -> bool:
    return seconds is not None and SHORTEST.total_seconds() / 1000 <= seconds <= LONGEST.total_seconds()


def _catch_up(due: Due) -> str:
    """Of what was missed while Beat was waited for, each is fired."""
    is_made_up = due.make_up_until is not None and due.due_at <= due.make_up_until
    return CatchUp.ALL if is_made_up else due.catch_up


def _window_start(due: Due, given: Circumstances) -> datetime:
    seconds = given.grace_seconds if due.grace_seconds is None else due.grace_seconds
    if due.make_up_until is not None and due.due_at <= due.make_up_until:
        seconds = max(seconds, given.on_time_seconds)
    return given.at - timedelta(seconds=seconds)


def _base(due: Due, given: Circumstances) -> datetime:
    last = None if due.ends_at is None else due.ends_at - _MICROSECOND
    return min(instant for instant in (given.at, last, due.beat_from) if instant is not None)


def _lay_out(due: Due, given: Circumstances, catch_up: str) -> Verdict:
    """An interval's occurrences, on the grid that it stands on."""
    if due.due_at < EARLIEST or not _is_period(due.interval_seconds):
        return Verdict()
    period = due.interval_seconds or 0.0
    step = (_base(due, given) - due.due_at) // timedelta(seconds=period)
    if catch_up == CatchUp.ALL and step > 0:
        step = min(step, max(0, ceil((_window_start(due, given) - due.due_at) / timedelta(seconds=period))))
    return Verdict(
        latest=due.due_at + timedelta(seconds=step * period),
        before=due.due_at + timedelta(seconds=(step - 1) * period) if step > 0 else None,
        next=due.due_at + timedelta(seconds=(step + 1) * period),
        missed=step,
    )
