"""The timeline: how many schedules are fired in each quarter of an hour ahead, and whether an edit joins a crowd."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path

from scheduler import api
from scheduler.admin.scope import ScopedPages
from scheduler.errors import InvalidInput
from scheduler.forecast.herd import OCCURRENCES
from scheduler.settings import scheduler_settings

SPANS = {"24": "next 24 hours", "168": "next 7 days"}
"""Hours that the page looks ahead."""
_DEFAULT = "24"
_SHADES = 5
_MINUTES_IN_CELL, _CELLS_IN_ROW = 15, 96
_LEFT, _TOP, _WIDTH, _HEIGHT, _PITCH = 84, 14, 9, 18, 22
"""Of the picture, in its own units: margins, a cell, and from one row to the next."""
_MINUTE = timedelta(minutes=1)
_CROWDING = {"kind", "cron_string", "timezone", "dialect", "jitter_seconds", "starts_at"}
"""Fields that decide in which minutes a schedule begins."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """A quarter of an hour in the picture."""

    x: int
    y: int
    shade: int
    """0: nothing is fired; 5: as much as in no other."""
    is_crowded: bool
    """Whether more begin in one of its minutes than `HERD_WARNING` says."""
    title: str


class TimelinePage(ScopedPages):
    """Mixin of the schedules' admin: the forecast of those that the user may see, and a warning of herds."""

    def get_urls(self) -> list[URLPattern]:
        """The page."""
        page = path("timeline/", self.admin_site.admin_view(self.timeline_view), name="scheduler_timeline")
        return [page, *super().get_urls()]

    def timeline_view(self, request: HttpRequest) -> HttpResponse:
        """The page."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        chosen = request.GET.get("hours", _DEFAULT)
        hours = chosen if chosen in SPANS else _DEFAULT
        scope = api.ForecastScope(organizations=self.organizations_of(request))
        made = api.forecast(hours=int(hours), scope=scope)
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": "Timeline",
            "spans": SPANS.items(),
            "hours_chosen": hours,
            "made": made,
            "total": sum(made.fires),
            "limit": scheduler_settings().herd_warning,
            "by_hour": list(_by_hour(made)),
            **picture_of(made, scheduler_settings().herd_warning),
        }
        return TemplateResponse(request, "admin/scheduler/timeline.html", context)

    def warn_of_herd(self, request: HttpRequest, pk: Any, changed: Collection[str]) -> None:
        """Say so where a schedule that was saved begins together with many others."""
        row = api.PgPeriodicSchedule.objects.filter(pk=pk).first()
        if row is None or _CROWDING.isdisjoint(changed):
            return
        try:
            ahead = api.upcoming(row, OCCURRENCES)
        except InvalidInput:  # the mirror of a schedule that Beat fires may not say yet what was typed
            return
        scope = api.ForecastScope(organizations=self.organizations_of(request), excluded=row.pk)
        herd = api.find_herd(ahead, jitter_seconds=row.jitter_seconds, scope=scope)
        if herd is not None:
            self.message_user(request, herd.sentence, messages.WARNING)


def picture_of(made: api.Forecast, limit: int) -> dict[str, Any]:
    """For the page's context: cells, labels and the size of the picture, a row for each 24 hours."""
    quarters = list(_aligned(made, _MINUTES_IN_CELL))[: len(made.fires) // _MINUTES_IN_CELL]
    highest = max(sum(one.fires) for one in quarters)
    cells = [_cell(number, quarter, highest, limit) for number, quarter in enumerate(quarters)]
    days = quarters[::_CELLS_IN_ROW]
    first_row = enumerate(quarters[:_CELLS_IN_ROW])
    return {
        "cells": cells,
        "days": [(f"{day.start:%a %m-%d}", _TOP + row * _PITCH + 13) for row, day in enumerate(days)],
        "ticks": [(f"{one.start:%H:%M}", _x(number)) for number, one in first_row if one.start.minute == 0][::3],
        "width": _LEFT + _CELLS_IN_ROW * _WIDTH,
        "height": _TOP + len(days) * _PITCH,
        "cell_width": _WIDTH - 1,
        "cell_height": _HEIGHT,
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stretch:
    """Some minutes of the forecast that follow each other."""

    start: datetime
    end: datetime
    fires: tuple[int, ...]
    starts: tuple[int, ...]


def _aligned(made: api.Forecast, length: int) -> Iterator[_Stretch]:
    """Stretches of so many minutes, on the clock's quarters or hours; the first and the last may have begun or end."""
    for first in range(-(made.first_minute.minute % length), len(made.fires), length):
        part = slice(max(first, 0), first + length)
        start = made.first_minute + first * _MINUTE
        yield _Stretch(start=start, end=start + length * _MINUTE, fires=made.fires[part], starts=made.starts[part])


def _cell(number: int, quarter: _Stretch, highest: int, limit: int) -> Cell:
    fires, peak = sum(quarter.fires), max(quarter.fires)
    title = f"{_at(quarter.start)}–{quarter.end:%H:%M} UTC: {fires} fires, {sum(quarter.starts)} begin"
    if peak:
        at = quarter.end - (len(quarter.fires) - quarter.fires.index(peak)) * _MINUTE
        title += f"; {peak} fires at {at:%H:%M}"
    return Cell(
        x=_x(number % _CELLS_IN_ROW),
        y=_TOP + number // _CELLS_IN_ROW * _PITCH,
        shade=-(-_SHADES * fires // highest) if highest else 0,
        is_crowded=max(quarter.starts) > limit,
        title=title,
    )


def _by_hour(made: api.Forecast) -> Iterator[tuple[str, int, int]]:
    for hour in _aligned(made, 60):
        yield _at(hour.start), sum(hour.fires), sum(hour.starts)


def _x(cell: int) -> int:
    return _LEFT + cell * _WIDTH


def _at(instant: datetime) -> str:
    return f"{instant:%a %Y-%m-%d %H:%M}"
