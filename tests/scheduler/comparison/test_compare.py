"""What a comparison reads from the ledger and the journal, and adds up."""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.utils import timezone

from scheduler import api, comparison
from scheduler.api import InvalidInput, PgPeriodicSchedule, ScheduleRun
from scheduler.comparison import Verdict, compare
from scheduler.models import BeatProcess, BeatSend
from tests.scheduler.schedules.making import make

pytestmark = pytest.mark.django_db

SECOND, MINUTE, HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)


@pytest.fixture
def start() -> datetime:
    """The full hour two hours ago."""
    return timezone.now().replace(minute=0, second=0, microsecond=0) - 2 * HOUR


@pytest.fixture
def process(start: datetime) -> BeatProcess:
    """A Beat that runs since before."""
    return BeatProcess.objects.create(
        host="here", process_id=1, scheduler="dcb", mode="observe", started_at=start - HOUR
    )


@pytest.fixture
def made() -> PgPeriodicSchedule:
    """A schedule of every minute that Beat fires, made long ago."""
    schedule = make(firer="beat", expression="* * * * *", dialect="celery")
    api.ScheduleChange.objects.all().delete()
    return schedule


def shadow(made: PgPeriodicSchedule, at: datetime, **columns: Any) -> None:
    """What the tick would have fired."""
    ScheduleRun.objects.create(
        id=uuid.uuid4(), schedule_id=made.pk, organization_id="default", scheduled_for=at, firer="pg",
        **{"origin": "shadow", "state": "fired", "fired_at": at, **columns},
    )  # fmt: skip


def send(process: BeatProcess, made: PgPeriodicSchedule, at: datetime, late: float = 0, **columns: Any) -> None:
    """What Beat was seen to send."""
    BeatSend.objects.create(
        process=process, beat_name=made.beat_name, schedule_id=made.pk, message_id="m", scheduled_for=at,
        sent_at=at + timedelta(seconds=late), **{"is_first": True, "state": "sent", **columns},
    )  # fmt: skip


def test_each_occurrence_is_counted_once_under_its_verdict(
    made: PgPeriodicSchedule, process: BeatProcess, start: datetime
) -> None:
    for minute in range(10):
        shadow(made, start + minute * MINUTE)
        if minute != 3:
            send(process, made, start + minute * MINUTE, late=0.2 if minute else 7)
    send(process, made, start + 4 * MINUTE, late=1)
    found = compare(since=start, until=start + HOUR)
    assert found.verdicts == {Verdict.SEMANTICS: 2, Verdict.DUPLICATE: 1, Verdict.MATCH: 7}
    assert found.causes == {"late": 1, "lost_send": 1, "unexplained": 1}
    assert (found.occurrences, found.unlisted) == (10, 0)
    assert found.lateness == [0, 8, 0, 0, 0, 1, 0, 0]
    summary = found.schedules[made.pk]
    assert (summary.name, summary.clean_streak, summary.is_ready) == ("Nightly", 5, False)
    assert summary.first_divergence is not None
    assert summary.first_divergence.scheduled_for == start
    assert [finding.scheduled_for for finding in found.differences] == [start + m * MINUTE for m in (0, 3, 4)]


def test_what_lies_outside_the_window_or_was_never_published_is_left_out(
    made: PgPeriodicSchedule, process: BeatProcess, start: datetime
) -> None:
    for at in (start - MINUTE, start, start + HOUR):
        shadow(made, at)
        send(process, made, at)
    send(process, made, start, state="refused", is_first=False)
    send(process, made, start, state="failed", is_first=False)
    assert compare(since=start, until=start + HOUR).verdicts == {Verdict.MATCH: 1}


def test_what_is_not_settled_yet_is_not_compared(made: PgPeriodicSchedule, process: BeatProcess) -> None:
    shadow(made, timezone.now() - timedelta(seconds=3))
    found = compare(since=timezone.now() - HOUR)
    assert found.occurrences == 0
    assert found.until < timezone.now() - timedelta(seconds=10)


def test_enough_clean_occurrences_make_it_ready(
    made: PgPeriodicSchedule, process: BeatProcess, start: datetime, settings: Any
) -> None:
    settings.SCHEDULER = {"CLEAN_OCCURRENCES": 5}
    for minute in range(5):
        shadow(made, start + minute * MINUTE)
        send(process, made, start + minute * MINUTE)
    assert compare(since=start).schedules[made.pk].is_ready
    send(process, made, start + timedelta(seconds=270))  # nothing expected it, and nothing explains it
    assert not compare(since=start).schedules[made.pk].is_ready


def test_what_came_after_the_window_explains_what_was_sent_only_then(
    made: PgPeriodicSchedule, process: BeatProcess, start: datetime
) -> None:
    enabled = {"action": "update", "fields": {"enabled": [False, True]}}  # as in Beat's own row
    api.ScheduleChange.objects.create(schedule_id=made.pk, changed_at=start + 30 * SECOND, **enabled)
    send(process, made, start, late=34)
    restarted = make(firer="beat", expression="* * * * *", dialect="celery")
    api.ScheduleChange.objects.filter(schedule_id=restarted.pk).delete()
    BeatProcess.objects.filter(pk=process.pk).update(stopped_at=start + 20 * SECOND)
    second = BeatProcess.objects.create(
        host="here", process_id=2, scheduler="dcb", mode="observe", started_at=start + 30 * SECOND
    )
    shadow(restarted, start)
    send(process, restarted, start)
    send(second, restarted, start, late=34)
    found = compare(since=start, until=start + 25 * SECOND)
    assert found.causes == {"re_enable_burst": 1, "beat_restarted": 1}


def test_only_the_schedules_asked_for_are_compared(
    made: PgPeriodicSchedule, process: BeatProcess, start: datetime
) -> None:
    other = make(firer="beat")
    for schedule in (made, other):
        shadow(schedule, start)
        send(process, schedule, start)
    assert list(compare(since=start, schedules=[other]).schedules) == [other.pk]
    assert compare(since=start, schedules=[]).occurrences == 0


def test_a_stretch_without_a_shadow_and_a_change_are_taken_into_account(
    made: PgPeriodicSchedule, process: BeatProcess, start: datetime
) -> None:
    shadow(made, start, state="no_leader", fired_at=None, span_end=start + 5 * MINUTE, occurrences=6)
    send(process, made, start + 2 * MINUTE)
    shadow(made, start + 8 * MINUTE)
    api.ScheduleChange.objects.create(
        schedule_id=made.pk, changed_at=start + 8 * MINUTE - timedelta(seconds=2), action="update"
    )
    assert compare(since=start).causes == {"no_shadow": 1, "reload_lag": 1}


def test_a_send_of_what_pg_fired_is_a_duplicate(
    made: PgPeriodicSchedule, process: BeatProcess, start: datetime
) -> None:
    shadow(made, start, origin="schedule")
    send(process, made, start, is_first=False)
    assert compare(since=start).causes == {"both_firers": 1}


def test_more_differences_than_are_listed_are_counted(
    made: PgPeriodicSchedule, process: BeatProcess, start: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comparison.summary, "MOST_DIFFERENCES", 2)
    for minute in range(5):
        shadow(made, start + minute * MINUTE)
    found = compare(since=start)
    assert (len(found.differences), found.unlisted) == (2, 3)


@pytest.mark.parametrize("bad", [{"since": datetime(2026, 1, 1)}, {"until": datetime(2026, 1, 1)}])
def test_a_naive_bound_or_a_window_that_ends_before_it_begins_is_refused(bad: dict[str, Any], start: datetime) -> None:
    with pytest.raises(InvalidInput, match="aware"):
        compare(**{"since": start, "until": start + HOUR} | bad)
    with pytest.raises(InvalidInput, match="until: expected an instant after since"):
        compare(since=start, until=start)


def test_what_beat_never_sends_is_no_evidence_for_handing_it_over(
    made: PgPeriodicSchedule, process: BeatProcess, start: datetime
) -> None:
    for number in range(30):
        shadow(made, start + number * MINUTE)
    found = compare(since=start, until=start + HOUR, schedules=[made]).schedules[made.pk]
    assert (found.verdicts[Verdict.SEMANTICS], found.clean_streak, found.is_ready) == (30, 0, False)
