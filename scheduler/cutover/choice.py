"""What a user of the cutover writes: which schedules, and why."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from hashlib import md5
from uuid import UUID

from scheduler import validation
from scheduler.errors import InvalidInput, ScheduleNotFound
from scheduler.models import PgPeriodicSchedule
from scheduler.querysets import ScheduleQuerySet
from scheduler.settings import scheduler_settings

_LONGEST_REASON = 500


def check_reason(reason: str) -> None:
    """Raises `InvalidInput`: field `reason`: it is too long, or cannot be stored."""
    if len(reason) > _LONGEST_REASON or "\x00" in reason:
        raise InvalidInput(field="reason", expected=f"a text of at most {_LONGEST_REASON} characters", got=reason)


def bucket_of(schedule_id: UUID) -> float:
    """Where a schedule stands in a rollout, from 0 to below 100 in hundredths: always the same, spread evenly.

    A rollout by P per cent is of the schedules whose bucket is below P, so a larger one holds a smaller one.
    """
    share = int(md5(f"rollout {schedule_id}".encode(), usedforsecurity=False).hexdigest()[:8], 16)
    return (share * 10_000 >> 32) / 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Schedules by id, by organization, by percentage; each that is given narrows it down. Nothing given: all."""

    schedule_ids: tuple[UUID, ...] | None = None
    organizations: Collection[str] | None = None
    """None: every one; empty: none."""
    percent: float | None = None
    """Those whose bucket is below."""

    def __post_init__(self) -> None:
        """Raises `InvalidInput`: field `percent`."""
        if self.percent is not None and not 0 <= self.percent <= 100:
            raise InvalidInput(field="percent", expected="a number from 0 to 100", got=self.percent)

    def schedules(self) -> list[PgPeriodicSchedule]:
        """The schedules, by id.

        Raises:
            ScheduleNotFound: one of those named is not there, or not one of these organizations'.
        """
        found = list(self._found().order_by("pipeline_id"))
        if self.schedule_ids is not None:
            missing = set(self.schedule_ids) - {row.pk for row in found}
            if missing:
                raise ScheduleNotFound(min(missing))
        return [row for row in found if self.percent is None or bucket_of(row.pk) < self.percent]

    def _found(self) -> ScheduleQuerySet:
        rows = PgPeriodicSchedule.objects.using(scheduler_settings().database).all()
        if self.schedule_ids is not None:
            rows = rows.filter(pk__in=self.schedule_ids)
        return rows if self.organizations is None else rows.for_organizations(self.organizations)


def chosen(
    *,
    schedules: Collection[UUID | str] | None = None,
    organizations: Collection[str] | None = None,
    percent: float | None = None,
) -> Choice:
    """A choice of what a user wrote. Raises `InvalidInput`: an id that is no UUID, a percentage out of range."""
    ids = None if schedules is None else tuple(validation.schedule_id(one) for one in schedules)
    return Choice(schedule_ids=ids, organizations=organizations, percent=percent)
