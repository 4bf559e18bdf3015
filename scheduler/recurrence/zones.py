"""Time zones: their names, and their time lines as stretches of constant offset from UTC."""

from __future__ import annotations

import difflib
import re
import zoneinfo
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import cache, lru_cache

from scheduler.errors import InvalidInput

_NAME = re.compile(r"[A-Za-z0-9_+\-]+(/[A-Za-z0-9_+\-]+)*", re.ASCII)
_LONGEST_NAME = 64
_MACHINE_BOUND = ("localtime", "posixrules", "Factory")
"""Keys that name whatever this machine is set to, or nothing."""
_OTHER_CLOCKS = ("right/", "posix/")
"""Folders of the system's database that repeat every zone, `right/` with leap seconds."""

_CHUNK_SECONDS_LOG2 = 25
"""A zone's offsets are looked up in chunks of 2**25 s, about 388 days."""
_PROBE_SECONDS = 1 << 17
"""Offsets are probed every 36 hours. The shortest stretch in the time zone database lasts 4 days (Africa/Freetown,
1939), so no pair of changes fits between two probes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """A stretch of a zone's time line on which the offset from UTC is constant: `start <= instant < end`.

    Instants are whole seconds since 1970-01-01 UTC. A stretch may end where nothing changes; then the next one's
    `previous_offset` is its own `offset`.
    """

    start: int
    end: int
    offset: int
    """Seconds to add to an instant for the wall clock."""
    previous_offset: int
    """The offset just before `start`: smaller than `offset` after a gap, larger after a fold."""


class TimeLine:
    """One zone's stretches, found on demand and kept. Safe in parallel: a race computes the same stretches twice."""

    __slots__ = ("_chunks", "zone")

    def __init__(self, zone: zoneinfo.ZoneInfo) -> None:
        self.zone = zone
        self._chunks: dict[int, tuple[list[int], list[Stretch]]] = {}

    def stretch_at(self, instant: int) -> Stretch:
        """The stretch that holds this instant."""
        chunk = self._chunks.get(instant >> _CHUNK_SECONDS_LOG2)
        if chunk is None:
            chunk = self._load(instant >> _CHUNK_SECONDS_LOG2)
        starts, stretches = chunk
        return stretches[bisect_right(starts, instant) - 1]

    def changes(self, start: int, end: int) -> Iterator[Stretch]:
        """The stretches that begin with a clock change in `start < change <= end`, earliest first."""
        stretch = self.stretch_at(start)
        while stretch.end <= end:
            stretch = self.stretch_at(stretch.end)
            if stretch.offset != stretch.previous_offset:
                yield stretch

    def _load(self, number: int) -> tuple[list[int], list[Stretch]]:
        start, end = number << _CHUNK_SECONDS_LOG2, (number + 1) << _CHUNK_SECONDS_LOG2
        starts = [start, *self._find_changes(start, end)]
        stretches = [
            Stretch(start=one, end=until, offset=self._offset(one), previous_offset=self._offset(one - 1))
            for one, until in zip(starts, [*starts[1:], end], strict=True)
        ]
        if len(self._chunks) >= 256:
            self._chunks.clear()
        self._chunks[number] = starts, stretches
        return starts, stretches

    def _find_changes(self, start: int, end: int) -> list[int]:
        probes = range(start, end, _PROBE_SECONDS)
        offsets = [self._offset(probe) for probe in probes] + [self._offset(end - 1)]
        ends = [*probes[1:], end - 1]
        return [
            self._bisect_change(probe, until)
            for probe, until, before, after in zip(probes, ends, offsets, offsets[1:], strict=False)
            if before != after
        ]

    def _bisect_change(self, before: int, after: int) -> int:
        """The first second with the new offset, between an instant before the change and one after it."""
        old = self._offset(before)
        while after - before > 1:
            middle = (before + after) // 2
            if self._offset(middle) == old:
                before = middle
            else:
                after = middle
        return after

    def _offset(self, instant: int) -> int:
        offset = datetime.fromtimestamp(instant, self.zone).utcoffset()
        assert offset is not None  # a ZoneInfo always knows its offset
        return int(offset.total_seconds())


@lru_cache(maxsize=1024)
def time_line(name: str) -> TimeLine:
    """The time line of an IANA zone, aliases such as `Asia/Calcutta` included.

    Raises:
        InvalidInput: field `timezone`, naming zones with a similar name.
    """
    zone = _find_zone(name)
    if zone is None:
        raise InvalidInput(field="timezone", expected="an IANA time zone name" + _suggest(name), got=name)
    return TimeLine(zone)


def _find_zone(name: str) -> zoneinfo.ZoneInfo | None:
    if len(name) > _LONGEST_NAME or not _NAME.fullmatch(name):
        return None
    if name in _MACHINE_BOUND or name.startswith(_OTHER_CLOCKS):
        return None
    try:
        return zoneinfo.ZoneInfo(name)
    except (ValueError, OSError, zoneinfo.ZoneInfoNotFoundError):
        # OSError: the key is a folder of the database ("America"), or no file name at all to this system.
        return None


def _suggest(name: str) -> str:
    by_folded = _names_by_folded()
    close = difflib.get_close_matches(name[:_LONGEST_NAME].casefold(), by_folded, n=3, cutoff=0.6)
    return f" (did you mean {', '.join(by_folded[one] for one in close)}?)" if close else ' such as "Europe/Berlin"'


@cache
def _names_by_folded() -> dict[str, str]:
    return {name.casefold(): name for name in sorted(zoneinfo.available_timezones() - set(_MACHINE_BOUND))}
