"""Creating a schedule: what is stored, and when it fires first."""

from __future__ import annotations

import uuid
from datetime import timedelta

import pytest

from scheduler import api, clock
from scheduler.api import InvalidInput, PgPeriodicSchedule
from scheduler.settings import scheduler_settings
from tests.scheduler.schedules.conftest import Hands
from tests.scheduler.schedules.making import at, make

pytestmark = pytest.mark.django_db


def test_a_crontab_fires_first_at_its_first_match_after_now(hands: Hands) -> None:
    made = make()
    assert made.next_run_at == at("2026-03-02 10:10:00")
    assert made.last_run_at is None


def test_a_match_at_this_very_instant_is_not_fired(hands: Hands) -> None:
    hands.set("2026-03-02 10:10:00")
    assert make().next_run_at == at("2026-03-02 10:15:00")


def test_an_interval_fires_first_one_period_from_now(hands: Hands) -> None:
    made = make(kind="interval", expression="PT90S")
    assert made.next_run_at == hands.now + timedelta(seconds=90)
    assert made.interval_seconds == 90.0


def test_an_interval_with_a_later_start_begins_with_it(hands: Hands) -> None:
    starts_at = at("2026-03-03 00:00:07")
    assert make(kind="interval", expression="PT1H", starts_at=starts_at).next_run_at == starts_at


def test_an_interval_whose_start_has_passed_fires_one_period_from_now(hands: Hands) -> None:
    made = make(kind="interval", expression="PT1H", starts_at=at("2020-01-01 00:00:00"))
    assert made.next_run_at == hands.now + timedelta(hours=1)


def test_a_crontab_with_a_later_start_may_fire_at_the_start_itself(hands: Hands) -> None:
    starts_at = at("2026-03-03 00:05:00")
    assert make(starts_at=starts_at).next_run_at == starts_at


def test_nothing_is_ahead_of_a_schedule_that_ends_before_its_first_match(hands: Hands) -> None:
    made = make(ends_at=at("2026-03-02 10:10:00"))
    assert made.next_run_at is None
    assert made.state == "ended"


def test_the_timezone_decides_what_the_fields_mean(hands: Hands) -> None:
    made = make(expression="30 9 * * *", timezone="Asia/Kolkata")
    assert made.next_run_at == at("2026-03-03 04:00:00")


def test_everything_that_was_given_is_stored(hands: Hands) -> None:
    identity = uuid.uuid4()
    make(
        schedule_id=identity,
        name="  Month end ",
        expression="0  6 1 * *",
        dialect="celery",
        timezone="Europe/Paris",
        args=(1, "two"),
        kwargs={"three": [3]},
        queue="reports",
        priority=9,
        organization_id="acme",
        workflow_id="w-7",
        starts_at=at("2026-04-01 00:00:00"),
        ends_at=at("2027-04-01 00:00:00"),
        grace_seconds=60,
        max_attempts=4,
    )
    stored = PgPeriodicSchedule.objects.get(pk=identity)
    assert (stored.pipeline_name, stored.cron_string, stored.dialect) == ("Month end", "0 6 1 * *", "celery")
    assert (stored.args, stored.kwargs, stored.queue, stored.priority) == ([1, "two"], {"three": [3]}, "reports", 9)
    assert (stored.organization_id, stored.workflow_id, stored.timezone) == ("acme", "w-7", "Europe/Paris")
    assert (stored.grace_seconds, stored.max_attempts, stored.firer, stored.enabled) == (60, 4, "pg", True)
    assert (stored.beat_name, stored.created_at, stored.updated_at) == (str(identity), hands.now, hands.now)


def test_no_workflow_is_null_and_not_the_word_none() -> None:
    assert PgPeriodicSchedule.objects.get(pk=make(workflow_id=None).pk).workflow_id is None
    assert PgPeriodicSchedule.objects.get(pk=make(workflow_id="").pk).workflow_id is None


def test_a_schedule_made_paused_says_since_when_and_why(hands: Hands) -> None:
    made = make(enabled=False, pause_note="until the data is there")
    assert (made.state, made.paused_at, made.pause_note) == ("paused", hands.now, "until the data is there")
    assert made.next_run_at == at("2026-03-02 10:10:00")


def test_an_id_that_is_taken_is_refused() -> None:
    taken = make()
    with pytest.raises(InvalidInput, match=r"schedule_id: expected an id that no schedule has yet, got: '.{36}'"):
        make(schedule_id=taken.pk)


@pytest.mark.postgresql("beside SQLite Celery Beat fires nothing")
def test_the_setting_decides_who_fires_a_schedule_that_does_not_say(settings) -> None:  # type: ignore[no-untyped-def]
    settings.SCHEDULER = {"DEFAULT_FIRER": "beat"}
    assert make().firer == "beat"
    assert make(firer="pg").firer == "pg"


def test_now_is_the_databases_clock() -> None:
    before = clock.now(scheduler_settings().database)
    made = make()
    assert before < made.created_at < clock.now(scheduler_settings().database)


def test_what_is_upcoming_follows_the_schedules_own_grid(hands: Hands) -> None:
    made = make(kind="interval", expression="PT1M")
    hands.set("2026-03-02 10:10:00")
    assert api.upcoming(made, 3) == [at(f"2026-03-02 10:{minute}:30") for minute in (10, 11, 12)]


def test_what_is_upcoming_ends_before_the_end(hands: Hands) -> None:
    made = make(ends_at=at("2026-03-02 10:20:00"))
    assert api.upcoming(made, 10) == [at("2026-03-02 10:10:00"), at("2026-03-02 10:15:00")]


@pytest.mark.parametrize("count", [0, 1001, True, "3"])
def test_how_many_are_upcoming_is_a_number_from_1_to_1000(count: object) -> None:
    with pytest.raises(InvalidInput, match="count: expected a whole number from 1 to 1000"):
        api.upcoming(make(), count)  # type: ignore[arg-type]


def test_nothing_is_upcoming_while_it_is_paused_or_quarantined(hands: Hands) -> None:
    assert api.upcoming(make(enabled=False), 5) == []
    held = make()
    held.quarantined_at = hands.now
    assert api.upcoming(held, 5) == []
