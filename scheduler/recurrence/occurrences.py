"""Places the wall minutes of a crontab on a zone's time line, across clock changes.

The rules, after ISC cron (cron(8)). A pattern is *wild* when its minute or hour field begins with `*`, else *fixed*.

- gap (the wall clock jumps forward): a wild pattern has no occurrence in it; a fixed one that names a minute in it has
  one occurrence, at the gap's end, if the gap is at most 3 hours long.
- fold (the wall clock goes back, and repeats): a wild pattern occurs in both passes, a fixed one in the first.
- occurrences on one instant are one.

On a stretch of constant offset wall minutes and instants differ by that offset only, so each function walks from
stretch to stretch. A wild pattern simply has, on each stretch, the minutes the wall shows there. A fixed one leaves out
a stretch's opening minutes where they repeat the last stretch's, and gets the stretch's start where the wall jumped.

Instants are whole seconds since 1970-01-01 UTC.
"""

from __future__ import annotations

from scheduler.recurrence.walltime import WallPattern
from scheduler.recurrence.zones import Stretch, TimeLine

LONGEST_BRIDGED_GAP_SECONDS = 3 * 3600
_LEAP_SECONDS = 3 * 86_400
"""Stretches between here and a match that is farther off than this are leapt over: more than the largest offset
difference (26 h) plus the largest change (24 h)."""


def following(pattern: WallPattern, line: TimeLine, instant: int) -> int | None:
    """The first occurrence after `instant`; None when the horizon holds none."""
    stretch = line.stretch_at(instant)
    first_minute = (instant + stretch.offset) // 60 + 1
    match = pattern.first_from(max(first_minute, _opening_minute(pattern, stretch)))
    while match is not None:
        if match * 60 < stretch.end + stretch.offset:
            return match * 60 - stretch.offset
        stretch = line.stretch_at(max(stretch.end, match * 60 - _LEAP_SECONDS))
        if _is_bridged(pattern, stretch) and _gap_start(stretch) <= match * 60 < stretch.start + stretch.offset:
            return stretch.start
        match = pattern.first_from(_opening_minute(pattern, stretch))
    return None


def preceding(pattern: WallPattern, line: TimeLine, instant: int) -> int | None:
    """The last occurrence at or before `instant`; None when the horizon holds none."""
    stretch = line.stretch_at(instant)
    match = pattern.last_to((instant + stretch.offset) // 60)
    while match is not None:
        if match >= _opening_minute(pattern, stretch):
            return match * 60 - stretch.offset
        if _is_bridged(pattern, stretch) and match * 60 >= _gap_start(stretch):
            return stretch.start
        stretch = line.stretch_at(min(stretch.start - 1, match * 60 + _LEAP_SECONDS))
        match = pattern.last_to((stretch.end + stretch.offset - 1) // 60)
    return None


def count(pattern: WallPattern, line: TimeLine, start: int, end: int) -> int:
    """How many occurrences lie in `start <= instant < end`."""
    total = 0
    while start < end:
        stretch = line.stretch_at(start)
        total += _count_on(pattern, stretch, start, min(end, stretch.end))
        start = stretch.end
    return total


def _count_on(pattern: WallPattern, stretch: Stretch, start: int, end: int) -> int:
    first_minute = max(_minute_up(start + stretch.offset), _opening_minute(pattern, stretch))
    counted = pattern.count(first_minute, _minute_up(end + stretch.offset))
    return counted + (start == stretch.start and _is_gap_end_alone(pattern, stretch))


def _is_gap_end_alone(pattern: WallPattern, stretch: Stretch) -> bool:
    """Whether the stretch's start is an occurrence because of the gap before it, and not by its own wall minute."""
    if not _is_bridged(pattern, stretch):
        return False
    gap_end = stretch.start + stretch.offset
    is_named = pattern.count(_minute_up(_gap_start(stretch)), _minute_up(gap_end)) > 0
    return is_named and not (gap_end % 60 == 0 and pattern.count(gap_end // 60, gap_end // 60 + 1))


def _opening_minute(pattern: WallPattern, stretch: Stretch) -> int:
    """The first wall minute of the stretch that is the pattern's: after the repeated ones where it is fixed."""
    if pattern.is_wild or stretch.offset >= stretch.previous_offset:
        return _minute_up(stretch.start + stretch.offset)
    return _minute_up(stretch.start + stretch.previous_offset)


def _is_bridged(pattern: WallPattern, stretch: Stretch) -> bool:
    return not pattern.is_wild and 0 < stretch.offset - stretch.previous_offset <= LONGEST_BRIDGED_GAP_SECONDS


def _gap_start(stretch: Stretch) -> int:
    return stretch.start + stretch.previous_offset


def _minute_up(wall_seconds: int) -> int:
    return -(-wall_seconds // 60)
