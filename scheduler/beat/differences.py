"""Why a schedule does not occur here when Celery Beat sends it: the rules by which the two are known to differ.

A rule is claimed only where its cause is there: a clock change at that instant, a minute of the pattern in the gap.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum
from typing import NamedTuple

from scheduler.beat.evaluation import BeatSchedule
from scheduler.beat.expressions import BeatClocked, BeatCrontab, BeatSolar
from scheduler.recurrence import Cadence, count_between
from scheduler.recurrence.instants import seconds_down
from scheduler.recurrence.kinds import Crontab, kind_of
from scheduler.recurrence.walltime import WallPattern
from scheduler.recurrence.zones import Stretch, time_line

_GRAZING_WITHIN = timedelta(hours=84)
_NEIGHBOURS_OF_A_SEASON = 5
"""Of the six occurrences within three days and a half of one that is well within its season, at least so many are
there; of one at the season's edge, three at most."""
_SAME_EVENT = timedelta(hours=1)
_COUNTED_AT_MOST = 99


class DifferenceRule(StrEnum):
    """What Beat does otherwise than a schedule here."""

    REPEATED_HOUR = "repeated_hour"
    REPEATED_HOUR_BURST = "repeated_hour_burst"
    SPRING_GAP = "spring_gap"
    EITHER_DAY = "either_day"
    PASSED_CLOCKED = "passed_clocked"
    GRAZING_SUN = "grazing_sun"

    @property
    def sentence(self) -> str:
        """The rule for people, in a sentence or two."""
        return _SENTENCES[self]


_SENTENCES = {
    DifferenceRule.REPEATED_HOUR: (
        "Where the clock goes back, Celery Beat skips the repeated hour; here a schedule whose minute or hour begins "
        "with '*' occurs in both passes."
    ),
    DifferenceRule.REPEATED_HOUR_BURST: (
        "A Celery Beat that sends during the second pass of a repeated hour finds the schedule due again at once, and "
        "sends it over and over until the hour's last match has passed; here each occurrence is fired once."
    ),
    DifferenceRule.SPRING_GAP: (
        "Where the clock jumps forward, Celery Beat sends as much later as the jump is long (02:30 becomes 03:30) and "
        "drops what it has passed by then; here a schedule that names fixed times occurs once, at the gap's end, and "
        "one whose minute or hour begins with '*' has no occurrence in the gap."
    ),
    DifferenceRule.EITHER_DAY: (
        "Day-of-month and day-of-week are both restricted: Celery Beat sends where both match, a schedule of dialect "
        "'unix' occurs where either does."
    ),
    DifferenceRule.PASSED_CLOCKED: (
        "The clocked time has passed: Celery Beat sends such a row at once when it sees it; here it has no occurrence "
        "left."
    ),
    DifferenceRule.GRAZING_SUN: (
        "On the first and the last day of a season in which the sun does this, it only grazes the altitude, and what "
        "ephem finds depends on where its search begins: Celery Beat searches from its last send, a schedule here from "
        "the start of each UTC day."
    ),
}


class Difference(NamedTuple):
    """An occurrence that only one side has, or one that it has at another instant than the other."""

    beat: datetime | None
    ours: datetime | None


def explain(difference: Difference, beat: BeatSchedule, cadence: Cadence, start: datetime) -> DifferenceRule | None:
    """The rule that a difference follows from; None: no known one. `start` is where Beat's clock was set going."""
    if isinstance(beat.times, BeatCrontab):
        return _explain_crontab(difference, beat, cadence, start)
    if isinstance(beat.times, BeatSolar):
        return DifferenceRule.GRAZING_SUN if _is_at_edge_of_season(difference, cadence) else None
    if isinstance(beat.times, BeatClocked):
        is_passed = beat.times.clocked_time <= start and difference.ours is None
        return DifferenceRule.PASSED_CLOCKED if is_passed else None
    return None


def _explain_crontab(
    difference: Difference, beat: BeatSchedule, cadence: Cadence, start: datetime
) -> DifferenceRule | None:
    read = kind_of(cadence.kind).read(cadence.expression, cadence.timezone, cadence.dialect)
    if not isinstance(read, Crontab):
        return None
    line = time_line(beat.timezone)
    changes = {line.stretch_at(seconds_down(at)) for at in difference if at is not None}
    if all(_is_within(at, change) for at in difference if at is not None for change in changes):
        [change] = changes
        return _explain_change(difference, change, read.pattern, start)
    is_either = difference.beat is None and not read.pattern.days.is_both_required
    return DifferenceRule.EITHER_DAY if is_either else None


def _explain_change(
    difference: Difference, change: Stretch, pattern: WallPattern, start: datetime
) -> DifferenceRule | None:
    if change.offset > change.previous_offset:
        return DifferenceRule.SPRING_GAP if _is_gap_named(pattern, change) else None
    if difference.beat is None:
        return DifferenceRule.REPEATED_HOUR if pattern.is_wild else None
    is_burst = difference.ours is None and _is_within(start, change)
    return DifferenceRule.REPEATED_HOUR_BURST if is_burst else None


def _is_at_edge_of_season(difference: Difference, cadence: Cadence) -> bool:
    at = difference.beat or difference.ours
    assert at is not None
    around = _count(cadence, at, _GRAZING_WITHIN) - _count(cadence, at, _SAME_EVENT)
    return around < _NEIGHBOURS_OF_A_SEASON


def _count(cadence: Cadence, at: datetime, within: timedelta) -> int:
    return count_between(cadence, at - within, at + within, _COUNTED_AT_MOST) or 0


def _is_within(at: datetime, change: Stretch) -> bool:
    """Whether an instant lies in the time after a change that is as long as what it skipped or repeated."""
    return change.start <= seconds_down(at) < change.start + abs(change.offset - change.previous_offset)


def _is_gap_named(pattern: WallPattern, change: Stretch) -> bool:
    gap_start, gap_end = change.start + change.previous_offset, change.start + change.offset
    return pattern.count(-(-gap_start // 60), -(-gap_end // 60)) > 0
