"""What is refused where it is written, with the field, what was expected and what was got; nothing is stored."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from scheduler import api
from scheduler.api import InvalidInput, PgPeriodicSchedule, ScheduleNotFound
from tests.scheduler.schedules.making import make

pytestmark = pytest.mark.django_db

EARLY, LATE = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 6, 1, tzinfo=UTC)

REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("name", {"name": "  "}, "text of 1 to 255 characters"),
    ("name", {"name": None}, "text"),
    ("name", {"name": "x" * 256}, "text of 1 to 255 characters"),
    ("name", {"name": "a\x00b"}, "text without control characters"),
    ("task", {"task": "tests.cuont"}, "the name of a registered task (did you mean tests.count?)"),
    ("task", {"task": "os.system"}, "the name of a registered task"),
    ("args", {"args": "abc"}, "a list of JSON values"),
    ("args", {"args": [datetime(2026, 1, 1)]}, "JSON"),
    ("args", {"args": [float("nan")]}, "JSON"),
    ("args", {"task": "tests.checked", "args": ["soon"]}, "since to be a valid datetime"),
    ("args", {"task": "tests.checked", "args": [datetime(2026, 1, 1, tzinfo=UTC)]}, "JSON"),
    ("args", {"task": "tests.checked"}, "the arguments of tests.checked(since: 'datetime')"),
    ("kwargs", {"task": "tests.checked", "kwargs": {"since": 5}}, "since to be a valid datetime"),
    ("kwargs", {"kwargs": ["a"]}, "an object of JSON values by name"),
    ("kwargs", {"kwargs": {1: 2}}, "an object of JSON values by name"),
    ("kwargs", {"kwargs": {"a": {1, 2}}}, "JSON"),
    ("args", {"args": ["x" * 300_000]}, "262144"),
    ("expression", {"expression": "every day"}, "five fields"),
    ("expression", {"expression": "61 * * * *"}, "minute"),
    ("expression", {"expression": "0 0 30 2 *"}, "an expression that has an occurrence"),
    ("expression", {"expression": "PT5S"}, "five fields"),
    ("expression", {"expression": None}, "text"),
    ("expression", {"kind": "interval", "expression": "5 seconds"}, "an ISO 8601 duration"),
    ("expression", {"kind": "interval", "expression": "PT0S"}, "at least 1 second"),
    ("kind", {"kind": "lunar"}, "one of crontab, interval"),
    ("dialect", {"dialect": "quartz"}, "one of unix, celery"),
    ("timezone", {"timezone": "Mars/Olympus"}, "time zone"),
    ("queue", {"queue": ""}, "1 to 128 letters"),
    ("queue", {"queue": "a,b"}, "1 to 128 letters"),
    ("queue", {"queue": "q" * 129}, "1 to 128 letters"),
    ("priority", {"priority": 0}, "a whole number from 1 to 10"),
    ("priority", {"priority": 11}, "a whole number from 1 to 10"),
    ("priority", {"priority": True}, "a whole number from 1 to 10"),
    ("priority", {"priority": "5"}, "a whole number from 1 to 10"),
    ("starts_at", {"starts_at": datetime(2026, 1, 1)}, "a datetime with a time zone"),
    ("starts_at", {"starts_at": "2026-01-01"}, "a datetime with a time zone"),
    ("ends_at", {"ends_at": datetime(2026, 1, 1)}, "a datetime with a time zone"),
    ("ends_at", {"starts_at": LATE, "ends_at": EARLY}, "an instant after starts_at"),
    ("ends_at", {"starts_at": EARLY, "ends_at": EARLY}, "an instant after starts_at"),
    ("grace_seconds", {"grace_seconds": 0}, "a whole number from 1 to"),
    ("grace_seconds", {"grace_seconds": 91 * 86400}, "a whole number from 1 to 7775999"),
    ("catch_up", {"catch_up": "some"}, "one of none, latest, all"),
    ("catch_up", {"catch_up": None}, "one of none, latest, all"),
    ("overlap", {"overlap": "never"}, "one of allow, skip, queue"),
    ("jitter_seconds", {"jitter_seconds": -1}, "a whole number from 0 to 86400"),
    ("jitter_seconds", {"jitter_seconds": 86401}, "a whole number from 0 to 86400"),
    ("run_limit", {"run_limit": 0}, "a whole number from 1 to 2147483647"),
    ("pause_after_failures", {"pause_after_failures": 0}, "a whole number from 1 to 32767"),
    ("paused_until", {"enabled": False, "paused_until": datetime(2030, 1, 1)}, "a datetime with a time zone"),
    ("max_attempts", {"max_attempts": 0}, "a whole number from 1 to 32767"),
    ("max_attempts", {"max_attempts": 2.0}, "a whole number from 1 to 32767"),
    ("organization_id", {"organization_id": ""}, "text of 1 to 64 characters"),
    ("organization_id", {"organization_id": "two words"}, "text without spaces"),
    ("organization_id", {"organization_id": None}, "text"),
    ("workflow_id", {"workflow_id": "w" * 256}, "text of 1 to 255 characters"),
    ("firer", {"firer": "cron"}, "'pg' or 'beat'"),
    ("enabled", {"enabled": "yes"}, "true or false"),
    ("pause_note", {"pause_note": "n" * 501}, "text of at most 500 characters"),
    ("schedule_id", {"schedule_id": "7"}, "a UUID"),
]


@pytest.mark.parametrize(("field", "fields", "expected"), REFUSED)
def test_a_new_schedule_is_refused_by_field(field: str, fields: dict[str, Any], expected: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        make(**fields)
    assert refused.value.field == field
    assert expected in refused.value.expected
    assert str(refused.value).startswith(f"{field}: expected ")
    assert "got: " in str(refused.value)
    assert len(str(refused.value)) < 1000
    assert not PgPeriodicSchedule.objects.exists()


@pytest.mark.parametrize(("field", "fields", "expected"), [case for case in REFUSED if case[0] != "schedule_id"])
def test_an_edit_is_refused_by_field_and_changes_nothing(field: str, fields: dict[str, Any], expected: str) -> None:
    identity = make().pk
    stored = PgPeriodicSchedule.objects.filter(pk=identity).values().get()
    with pytest.raises(InvalidInput) as refused:
        api.update_schedule(identity, **fields)
    assert refused.value.field == field
    assert expected in refused.value.expected
    assert PgPeriodicSchedule.objects.filter(pk=identity).values().get() == stored


@pytest.mark.parametrize("field", ["cron_string", "next_run_at", "pipeline_id", "beat_name", "colour"])
def test_an_edit_of_a_field_that_does_not_exist_is_refused_by_its_name(field: str) -> None:
    identity = make().pk
    with pytest.raises(InvalidInput, match=f"{field}: expected one of the fields args, .*, got: '{field}'"):
        api.update_schedule(identity, **{field: "x"})


def test_an_edit_cannot_change_the_firer() -> None:
    identity = make().pk
    with pytest.raises(InvalidInput, match=r"firer: expected 'pg', the schedule's own .*, got: 'beat'"):
        api.update_schedule(identity, firer="beat")
    assert api.update_schedule(identity, firer="pg").firer == "pg"


def test_an_end_before_the_stored_start_is_refused() -> None:
    identity = make(starts_at=LATE).pk
    with pytest.raises(InvalidInput, match="ends_at: expected an instant after starts_at"):
        api.update_schedule(identity, ends_at=EARLY)


def test_an_expression_is_judged_by_the_stored_kind() -> None:
    identity = make().pk
    with pytest.raises(InvalidInput, match="expression: expected five fields"):
        api.update_schedule(identity, expression="PT5S")
    with pytest.raises(InvalidInput, match="expression: expected an ISO 8601 duration"):
        api.update_schedule(identity, kind="interval")


def test_a_reason_that_is_too_long_is_refused() -> None:
    with pytest.raises(InvalidInput, match="pause_note: expected text of at most 500 characters"):
        api.pause_schedule(make().pk, reason="r" * 501)


@pytest.mark.parametrize(
    "act",
    [
        api.update_schedule,
        api.pause_schedule,
        api.resume_schedule,
        api.delete_schedule,
        api.run_schedule,
        api.get_schedule,
    ],
)
def test_an_id_that_no_schedule_has_is_not_found(act: Any) -> None:
    with pytest.raises(ScheduleNotFound, match=r"schedule: expected the id of an existing schedule, got: '.{36}'"):
        act(uuid.uuid4())
    with pytest.raises(InvalidInput, match="schedule_id: expected a UUID, got: 'x'"):
        act("x")


def _nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize("args", [_nested(100_000), [10**5000]], ids=["depth", "digits"])
def test_arguments_that_cannot_even_be_shown_are_refused_by_field(args: list[Any]) -> None:
    with pytest.raises(InvalidInput, match=r"^args: expected") as refused:
        make(args=args)
    assert len(str(refused.value)) < 1000


def test_a_reason_that_no_database_can_hold_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"^pause_note: expected"):
        api.pause_schedule(make().pk, reason="because \ud800")


def test_a_start_beyond_the_last_year_in_utc_is_refused_by_its_field() -> None:
    with pytest.raises(InvalidInput, match=r"^starts_at: expected"):
        make(starts_at=datetime(2999, 12, 31, 23, 59, tzinfo=timezone(timedelta(hours=-14))))


@pytest.mark.parametrize("garbage", [{"cron_string": "garbage"}, {"timezone": "Mars/Olympus"}])
def test_a_stored_row_that_means_nothing_can_be_paused_and_deleted(garbage: dict[str, str]) -> None:
    made = make()
    PgPeriodicSchedule.objects.update(**garbage)
    api.pause_schedule(made.pk, reason="broken")
    assert PgPeriodicSchedule.objects.get(pk=made.pk).enabled is False
    api.delete_schedule(made.pk)
    assert not PgPeriodicSchedule.objects.exists()


def test_a_stored_payload_that_no_message_can_hold_is_refused_when_run() -> None:
    made = make()
    PgPeriodicSchedule.objects.update(args={"not": "a list"})
    with pytest.raises(InvalidInput, match=r"^args: expected"):
        api.run_schedule(made.pk)
