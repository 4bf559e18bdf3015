"""Certificates: whether a schedule occurs here when Celery Beat would send it, and if not, why.

Celery's own evaluator and ours are walked side by side: over the next occurrences, and over those around the next two
changes of the zone's clock, where the two differ by rule. A difference that a known rule explains carries its name; one
that none explains carries none, and is for a person to look at.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from typing import Any, NamedTuple

from scheduler.beat.differences import Difference, DifferenceRule, explain
from scheduler.beat.evaluation import BeatSchedule, beat_upcoming
from scheduler.beat.expressions import BeatSolar
from scheduler.domain import ScheduleKind
from scheduler.recurrence import Cadence
from scheduler.recurrence.instants import check, moment, seconds_down
from scheduler.recurrence.kinds import kind_of
from scheduler.recurrence.zones import Stretch, time_line

DEFAULT_COUNT = 50
CLOCK_CHANGES = 2
_CHANGES_WITHIN = timedelta(days=3 * 366)
_MARGIN = timedelta(hours=1)
"""Compared on both sides of the hours that a clock change skips or repeats."""
_AFTERWARDS = 2
"""Occurrences compared after those hours."""
_SECOND = timedelta(seconds=1)
_NO_TOLERANCE = timedelta(0)
_SOLAR_TOLERANCE = timedelta(seconds=2)
"""ephem's answer depends on where its search begins; see `scheduler.recurrence.solar`."""
_PAIRED_WITHIN = timedelta(hours=3)
"""An instant that only Beat has and one that only we have are one difference where they are so close."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """What a comparison found."""

    compared: int
    """Occurrences that were looked at."""
    is_equal: bool
    """Whether all of them agree: to the microsecond, those of the sun within 2 seconds."""
    first_difference: Difference | None
    """The first that no rule explains; where there is none, the first."""
    rule: DifferenceRule | None
    """What explains it; None, unless the two are equal: nothing known does."""
    evaluated_until: datetime
    """The last occurrence that was looked at; where there was none, the start."""
    made_at: datetime

    @property
    def is_explained(self) -> bool:
        """Whether every difference follows from a known rule."""
        return self.is_equal or self.rule is not None

    def as_json(self) -> dict[str, Any]:
        """What `from_json` reads: only texts, numbers, lists and None."""
        difference = self.first_difference and [one and one.isoformat() for one in self.first_difference]
        return {
            "compared": self.compared,
            "is_equal": self.is_equal,
            "first_difference": difference,
            "rule": self.rule and self.rule.value,
            "evaluated_until": self.evaluated_until.isoformat(),
            "made_at": self.made_at.isoformat(),
        }

    @classmethod
    def from_json(cls, written: dict[str, Any]) -> Certificate:
        """The certificate that `as_json` wrote. Raises KeyError or ValueError for anything else."""
        difference = written["first_difference"]
        return cls(
            compared=written["compared"],
            is_equal=written["is_equal"],
            first_difference=difference and Difference(*(one and datetime.fromisoformat(one) for one in difference)),
            rule=written["rule"] and DifferenceRule(written["rule"]),
            evaluated_until=datetime.fromisoformat(written["evaluated_until"]),
            made_at=datetime.fromisoformat(written["made_at"]),
        )


class Compared(NamedTuple):
    """An occurrence of both, or of one of them."""

    at: datetime
    difference: Difference | None


class Section(NamedTuple):
    """A stretch of time, and the occurrences in it, in order."""

    change: Stretch | None
    """The clock change that it is about; None: it is what comes next."""
    compared: list[Compared]


class _Part(NamedTuple):
    """A stretch of time to be compared: what lies after `after`, up to `until` and `more` occurrences beyond."""

    after: datetime
    until: datetime
    more: int
    change: Stretch | None = None


def certify(
    beat: BeatSchedule,
    cadence: Cadence,
    *,
    made_at: datetime,
    after: datetime | None = None,
    count: int = DEFAULT_COUNT,
) -> Certificate:
    """Compare the next `count` occurrences, and those around the next two clock changes of a crontab's zone.

    `after` is where to begin, `made_at` unless it is given: an interval is counted from it, so that it should be Beat's
    last send. Takes some milliseconds, nearly all of them in Celery's evaluator: certify equal schedules once.

    Raises:
        InvalidInput: as `beat_occurrences` does, and for a cadence that means nothing.
    """
    start = check(after or made_at, "after")
    compared = {
        one.at: one for section in sections(beat, cadence, after=start, count=count) for one in section.compared
    }
    differences = [compared[at].difference for at in sorted(compared) if compared[at].difference is not None]
    explained = [(one, explain(one, beat, cadence, start)) for one in differences if one is not None]
    first, rule = next((one for one in explained if one[1] is None), explained[0] if explained else (None, None))
    return Certificate(
        compared=len(compared),
        is_equal=not explained,
        first_difference=first,
        rule=rule,
        evaluated_until=max(compared, default=start),
        made_at=made_at,
    )


def sections(beat: BeatSchedule | None, cadence: Cadence, *, after: datetime, count: int) -> Iterator[Section]:
    """The next `count` occurrences side by side, then those around the next two clock changes of a crontab's zone.

    `beat` None: only ours, without a difference. Raises as `certify` does.
    """
    zone = cadence.timezone if beat is None else beat.timezone
    for part in _parts(cadence, zone, after, count):
        if beat is None:
            yield Section(part.change, [Compared(at, None) for at in _take(_ours(cadence, part.after), part)])
        else:
            yield Section(part.change, list(_compare(beat, cadence, part)))


def _parts(cadence: Cadence, zone: str, start: datetime, count: int) -> Iterator[_Part]:
    yield _Part(start, start, count)
    if cadence.kind != ScheduleKind.CRONTAB:
        return
    line = time_line(zone)
    ahead = line.changes(seconds_down(start), seconds_down(start + _CHANGES_WITHIN))
    for change in islice(ahead, CLOCK_CHANGES):
        first, last = _around(change)
        yield _Part(max(start, first), last, _AFTERWARDS, change)


def _around(change: Stretch) -> tuple[datetime, datetime]:
    at, shift = moment(change.start), timedelta(seconds=abs(change.offset - change.previous_offset))
    assert at is not None
    return at - shift - _MARGIN, at + shift + _MARGIN


def _compare(beat: BeatSchedule, cadence: Cadence, part: _Part) -> Iterator[Compared]:
    theirs = _take(_beats(beat, part.after), part)
    ours = _take(_ours(cadence, part.after), part)
    tolerance = _SOLAR_TOLERANCE if isinstance(beat.times, BeatSolar) else _NO_TOLERANCE
    ends = [found[-1] for found in (theirs, ours) if _is_cut_off(found, part)]
    end = min(ends) + tolerance if ends else None
    for one in _pair(theirs, ours, tolerance):
        if end is None or one.at <= end:
            yield one


def _take(occurrences: Iterable[datetime], part: _Part) -> list[datetime]:
    taken: list[datetime] = []
    more = part.more
    for one in occurrences:
        more -= one > part.until
        taken.append(one)
        if not more:
            break
    return taken


def _is_cut_off(taken: list[datetime], part: _Part) -> bool:
    """Whether there are more occurrences than were taken."""
    return sum(one > part.until for one in taken) == part.more


def _beats(beat: BeatSchedule, after: datetime) -> Iterator[datetime]:
    """Beat's sends after `after`, as of one that was up before the clock changed, not one that started just after."""
    line, instant = time_line(beat.timezone), seconds_down(after)
    stretch = line.stretch_at(instant)
    is_shortly_after = instant < stretch.start + abs(stretch.offset - stretch.previous_offset)
    before = moment(stretch.start - 1) if is_shortly_after else None
    return (one for one in beat_upcoming(beat, before or after) if one > after)


def _ours(cadence: Cadence, after: datetime) -> Iterator[datetime]:
    recurrence = kind_of(cadence.kind).read(cadence.expression, cadence.timezone, cadence.dialect)
    instant: datetime | None = after
    while instant is not None and (instant := recurrence.following(instant)) is not None:
        yield instant


def _pair(theirs: list[datetime], ours: list[datetime], tolerance: timedelta) -> Iterator[Compared]:
    """Both lists side by side, in order."""
    waiting_theirs, waiting_ours = theirs[::-1], ours[::-1]
    while waiting_theirs or waiting_ours:
        beat = waiting_theirs[-1] if waiting_theirs else None
        mine = waiting_ours[-1] if waiting_ours else None
        if beat and mine and abs(beat - mine) <= tolerance:
            yield Compared(waiting_ours.pop(), None)
            waiting_theirs.pop()
        elif beat and mine and abs(beat - mine) <= _PAIRED_WITHIN and _are_alone(theirs, beat, ours, mine, tolerance):
            yield Compared(min(waiting_theirs.pop(), waiting_ours.pop()), Difference(beat, mine))
        elif beat and (mine is None or beat < mine):
            yield Compared(waiting_theirs.pop(), Difference(beat, None))
        else:
            yield Compared(waiting_ours.pop(), Difference(None, mine))


def _are_alone(
    theirs: list[datetime], beat: datetime, ours: list[datetime], mine: datetime, tolerance: timedelta
) -> bool:
    """Whether neither has a counterpart."""
    return not any(abs(one - beat) <= tolerance for one in ours) and not any(
        abs(one - mine) <= tolerance for one in theirs
    )
