"""A database of the test's own, a stopped clock, and a Celery Beat that is only a row."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from django_celery_beat.models import PeriodicTask

from scheduler.api import BeatProcess, BeatSend, PgPeriodicSchedule
from tests.scheduler.beat.conftest import hands, rows  # noqa: F401
from tests.scheduler.schedules.conftest import Hands
from tests.scheduler.schedules.making import make

SECOND, MINUTE = timedelta(seconds=1), timedelta(minutes=1)


class Beat:
    """A live Beat that observes: what it sends is recorded, by hand."""

    def __init__(self, now: datetime, mode: str = "observe") -> None:
        self.began = now
        self.process = BeatProcess.objects.create(
            host="here", process_id=1, scheduler="dcb", mode=mode, started_at=now - timedelta(hours=1)
        )

    def send(self, row: PgPeriodicSchedule, at: datetime, late: float = 0.2, **columns: Any) -> BeatSend:
        """Record that it sent this occurrence so much later."""
        sent_at = at + timedelta(seconds=late)
        made = {"is_first": True, "state": "sent", "sent_at": sent_at, "recorded_at": sent_at, **columns}
        return BeatSend.objects.create(
            process=self.process, beat_name=row.beat_name, schedule_id=row.pk, message_id="m", scheduled_for=at, **made
        )

    def send_canary(self, state: str = "sent") -> None:
        """It has loaded the change."""
        for canary in PeriodicTask.objects.filter(name__startswith="downbeat-canary-"):
            BeatSend.objects.create(
                process=self.process, beat_name=canary.name, message_id="c", sent_at=self.began + MINUTE,
                is_first=False, state=state,
            )  # fmt: skip

    def die(self, at: datetime) -> None:
        """It was killed just after its last sign of life, at this instant."""
        BeatProcess.objects.filter(pk=self.process.pk).update(heartbeat_at=at)


@pytest.fixture
def beat(hands: Hands) -> Beat:  # noqa: F811
    """The one Beat that lives."""
    return Beat(hands.now)


@pytest.fixture
def every_minute(hands: Hands) -> PgPeriodicSchedule:  # noqa: F811
    """A schedule of every minute that Beat fires since an hour ago."""
    return _made_before(hands, expression="* * * * *", dialect="celery")


@pytest.fixture
def every_ten_seconds(hands: Hands) -> PgPeriodicSchedule:  # noqa: F811
    """An interval that Beat fires since an hour ago."""
    return _made_before(hands, kind="interval", expression="PT10S")


def _made_before(hands: Hands, **fields: Any) -> PgPeriodicSchedule:  # noqa: F811
    now = hands.now
    hands.now = now - timedelta(hours=1)
    row = make(firer="beat", **fields)
    hands.now = now
    return row


@pytest.fixture
def made_before(hands: Hands) -> Callable[..., PgPeriodicSchedule]:  # noqa: F811
    """Makes schedules that Beat fires since an hour ago."""
    return lambda **fields: _made_before(hands, **fields)
