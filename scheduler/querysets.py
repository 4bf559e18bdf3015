"""The words in which schedules, runs, drift, and what is known of Celery Beat are asked for."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Self

from django.db import models
from django.db.models import OuterRef, Q
from django.db.models.functions import Now

from scheduler.domain import FIRED_STATES, Firer, HandoverState, RunOrigin, ScheduleState, SendState

if TYPE_CHECKING:
    from uuid import UUID

    from scheduler import models as tables  # noqa: F401  named in the strings below

BEAT_ALIVE = timedelta(seconds=10)
"""A Beat process whose last heartbeat is older than this is not counted as living; it makes one every 2 s."""

_QUARANTINED = Q(quarantined_at__isnull=False)
_PAUSED = Q(enabled=False, quarantined_at__isnull=True)
_OVER = Q(next_run_at__isnull=True) | Q(firer=Firer.BEAT.value, ends_at__lte=Now())
_ENDED = Q(enabled=True, quarantined_at__isnull=True) & _OVER
_ACTIVE = Q(enabled=True, quarantined_at__isnull=True) & ~_OVER
_BY_STATE = {
    ScheduleState.QUARANTINED: _QUARANTINED,
    ScheduleState.PAUSED: _PAUSED,
    ScheduleState.ENDED: _ENDED,
    ScheduleState.ACTIVE: _ACTIVE,
}


class ScheduleQuerySet(models.QuerySet["tables.PgPeriodicSchedule"]):
    """Schedules."""

    def for_organizations(self, organization_ids: Iterable[str]) -> Self:
        """Those of these organizations only; of none when the iterable is empty."""
        return self.filter(organization_id__in=list(organization_ids))

    def in_state(self, state: ScheduleState | str) -> Self:
        """Those that `PgPeriodicSchedule.state` would name so. Raises ValueError for a word that is no state."""
        return self.filter(_BY_STATE[ScheduleState(state)])

    def active(self) -> Self:
        """Those with an occurrence ahead that nothing holds back."""
        return self.filter(_ACTIVE)

    def paused(self) -> Self:
        """Those that a person has paused."""
        return self.filter(_PAUSED)

    def quarantined(self) -> Self:
        """Those that the tick cannot evaluate."""
        return self.filter(_QUARANTINED)

    def fired_by(self, firer: Firer) -> Self:
        """Those whose occurrences `firer` turns into work."""
        return self.filter(firer=firer.value)

    def due(self, at: datetime) -> Self:
        """Those that the tick would fire at `at`, the longest due first."""
        return (
            self.fired_by(Firer.PG)
            .active()
            .filter(hold__isnull=True, next_run_at__lte=at)
            .order_by("next_run_at", "pipeline_id")
        )


class ScheduleRunQuerySet(models.QuerySet["tables.ScheduleRun"]):
    """Runs: the rows of the ledger."""

    def for_organizations(self, organization_ids: Iterable[str]) -> Self:
        """Those of these organizations only; of none when the iterable is empty."""
        return self.filter(organization_id__in=list(organization_ids))

    def of_schedule(self, schedule_id: UUID | str) -> Self:
        """One schedule's, also after it was deleted."""
        return self.filter(schedule_id=schedule_id)

    def fired(self) -> Self:
        """Those that became a message, whatever became of it."""
        return self.filter(state__in=sorted(state.value for state in FIRED_STATES))

    def manual(self) -> Self:
        """Those that a person started."""
        return self.filter(origin=RunOrigin.MANUAL.value)

    def latest_first(self) -> Self:
        """By occurrence, the latest first; the order of `scheduler_run_recent`."""
        return self.order_by("-scheduled_for", "id")


class MirrorFailureQuerySet(models.QuerySet["tables.MirrorFailure"]):
    """Writes of mirror rows that failed."""

    def unrepaired(self) -> Self:
        """Those whose mirror row has not been written since, the latest first."""
        return self.filter(repaired_at__isnull=True).order_by("-failed_at", "-id")

    def of_schedule(self, schedule_id: UUID) -> Self:
        """One schedule's."""
        return self.filter(schedule_id=schedule_id)


class MirrorDriftQuerySet(models.QuerySet["tables.MirrorDrift"]):
    """Differences between schedules here and in Celery Beat."""

    def unrepaired(self) -> Self:
        """Those that are still there as far as is known, the latest first."""
        return self.filter(repaired_at__isnull=True).order_by("-found_at", "-id")

    def of_schedule(self, schedule_id: UUID) -> Self:
        """One schedule's."""
        return self.filter(schedule_id=schedule_id)


class HandoverQuerySet(models.QuerySet["tables.Handover"]):
    """Changes of who fires a schedule."""

    def waiting(self) -> Self:
        """Those that are under way, the oldest first."""
        return self.filter(state=HandoverState.WAITING.value).order_by("id")

    def latest_first(self) -> Self:
        """The latest first."""
        return self.order_by("-requested_at", "-id")

    def for_organizations(self, organization_ids: Iterable[str]) -> Self:
        """Those of these organizations only; of none when the iterable is empty."""
        return self.filter(organization_id__in=list(organization_ids))

    def of_schedule(self, schedule_id: UUID | str) -> Self:
        """One schedule's, also after it was deleted."""
        return self.filter(schedule_id=schedule_id)


class BeatProcessQuerySet(models.QuerySet["tables.BeatProcess"]):
    """Processes of Celery Beat."""

    def live(self) -> Self:
        """Those that have given a sign of life within 10 s and have not stopped, the latest first."""
        return self.filter(stopped_at__isnull=True, heartbeat_at__gt=Now() - BEAT_ALIVE).order_by("-started_at")


class BeatSendQuerySet(models.QuerySet["tables.BeatSend"]):
    """Sends of Celery Beat."""

    def of_schedule(self, schedule_id: UUID | str) -> Self:
        """One schedule's, also after it was deleted."""
        return self.filter(schedule_id=schedule_id)

    def unknown(self) -> Self:
        """Those of processes that are gone of which nobody knows whether they were published, the latest first."""
        from scheduler.models import BeatProcess

        alive = BeatProcess.objects.using(self.db).live().filter(pk=OuterRef("process_id")).order_by()
        return self.filter(~models.Exists(alive), state=SendState.CLAIMED.value).order_by("-id")
