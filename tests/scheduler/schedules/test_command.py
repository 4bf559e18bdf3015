"""`manage.py schedules`: what it prints and how it exits."""

from __future__ import annotations

import json
import re
import uuid
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from scheduler import api
from scheduler.api import PgPeriodicSchedule
from tests.scheduler.schedules.conftest import Hands
from tests.scheduler.schedules.making import at, make
from tests.scheduler.schedules.test_explanation import record

pytestmark = pytest.mark.django_db


def run(*arguments: object) -> str:
    """What the command writes to stdout."""
    written = StringIO()
    call_command("schedules", *map(str, arguments), stdout=written, stderr=StringIO())
    return written.getvalue()


def run_json(*arguments: object) -> list[dict[str, Any]]:
    """The objects it writes with `--json`."""
    return [json.loads(line) for line in run(*arguments, "--json").splitlines()]


def exit_code(*arguments: object) -> tuple[int, str]:
    """How it fails, and what it says."""
    with pytest.raises(CommandError) as failed:
        run(*arguments)
    return failed.value.returncode, str(failed.value)


def test_the_list_is_a_table_by_organization_and_name() -> None:
    make(name="Zebra", organization_id="acme")
    make(name="Ant", organization_id="zoo")
    make(name="Bee", organization_id="acme", enabled=False)
    title, *lines = run("list").splitlines()
    assert title.split() == [
        *("id", "name", "organization", "state", "firer"),
        *("expression", "timezone", "last_run_at", "next_run_at"),
    ]
    assert [line.split()[1:4] for line in lines] == [
        ["Bee", "acme", "paused"],
        ["Zebra", "acme", "active"],
        ["Ant", "zoo", "active"],
    ]


@pytest.mark.postgresql("beside SQLite Celery Beat fires nothing")
def test_the_list_is_narrowed_by_organization_state_and_firer() -> None:
    kept = make(organization_id="acme", enabled=False, firer="beat")
    for other in ({"organization_id": "zoo", "enabled": False}, {"organization_id": "acme"}):
        make(**other)
    found = run_json("list", "--organization", "acme", "--state", "paused", "--firer", "beat")
    assert [row["id"] for row in found] == [str(kept.pk)]
    assert len(run_json("list", "--organization", "acme", "--organization", "zoo")) == 3
    assert run_json("list", "--organization", "nobody") == []
    assert len(run_json("list", "--limit", "2")) == 2


def test_a_schedule_is_shown_under_its_public_names(hands: Hands) -> None:
    made = make(args=[1], grace_seconds=60)
    api.run_schedule(made.pk)
    (shown,) = run_json("show", made.pk)
    assert (shown["id"], shown["name"], shown["organization"]) == (str(made.pk), "Nightly", "default")
    assert (shown["expression"], shown["next_run_at"], shown["args"]) == ("*/5 * * * *", "2026-03-02T10:10:00Z", [1])
    assert [(view["origin"], view["state"], view["schedule"]) for view in shown["runs"]] == [
        ("manual", "fired", str(made.pk))
    ]
    text = run("show", made.pk)
    assert re.search(r"^grace_seconds +60$", text, re.MULTILINE)
    assert "2026-03-02T10:07:30Z  fired  manual" in text


def test_the_next_occurrences_are_told_in_utc_and_in_the_schedules_zone(hands: Hands) -> None:
    made = make(expression="0 9 * * *", timezone="Asia/Kolkata")
    assert run_json("next", made.pk, "--count", 2) == [
        {"scheduled_for": "2026-03-03T03:30:00Z", "local": "2026-03-03T09:00:00+05:30"},
        {"scheduled_for": "2026-03-04T03:30:00Z", "local": "2026-03-04T09:00:00+05:30"},
    ]
    assert run("next", make(enabled=False).pk) == ""


def test_pausing_and_resuming_go_through_the_choke_points(hands: Hands) -> None:
    made = make()
    (paused,) = run_json("pause", made.pk, "--reason", "maintenance")
    assert (paused["state"], paused["pause_note"]) == ("paused", "maintenance")
    hands.set("2026-03-02 11:01:00")
    (resumed,) = run_json("resume", made.pk)
    assert (resumed["state"], resumed["next_run_at"]) == ("active", "2026-03-02T11:05:00Z")


def test_a_run_by_hand_is_shown() -> None:
    made = make()
    (started,) = run_json("run", made.pk)
    assert (started["schedule"], started["origin"], started["state"]) == (str(made.pk), "manual", "fired")


def test_an_explanation_is_lines_of_text_with_its_run_as_a_table(hands: Hands) -> None:
    made = make(expression="0 3 * * *")
    three = at("2026-03-02 03:00:00")
    record(made, three, state="failed", error={"type": "E", "message": "no room", "traceback": ""})
    text = run("explain", made.pk, "--at", three.isoformat())
    assert re.search("^state +failed$", text, re.MULTILINE)
    assert re.search("^scheduled_for +state +origin ", text, re.MULTILINE)
    assert not re.search(r"[{}\[\]]|datetime", text)


def test_an_instant_without_an_offset_is_refused_as_it_was_written() -> None:
    code, message = exit_code("explain", make().pk, "--at", "2026-12-24T18:00")
    expected = "--at: expected an ISO 8601 instant with an offset, such as 2026-12-24T18:00:00Z"
    assert (code, message) == (2, f"{expected}, got: '2026-12-24T18:00'")


def test_a_deletion_needs_to_be_meant() -> None:
    made = make()
    code, message = exit_code("delete", made.pk)
    assert (code, message) == (2, "--yes: expected to be given, because a deletion cannot be undone, got: 'nothing'")
    assert PgPeriodicSchedule.objects.exists()
    assert run("delete", made.pk, "--yes") == f"deleted {made.pk}\n"
    assert not PgPeriodicSchedule.objects.exists()


@pytest.mark.parametrize("action", ["show", "next", "pause", "resume", "run", "delete"])
def test_bad_input_exits_with_2_and_an_unknown_id_with_5(action: str) -> None:
    extra = ["--yes"] if action == "delete" else []
    assert exit_code(action, "x", *extra) == (2, "schedule_id: expected a UUID, got: 'x'")
    code, message = exit_code(action, uuid.uuid4(), *extra)
    assert code == 5
    assert message.startswith("schedule: expected the id of an existing schedule")


def test_a_count_that_makes_no_sense_exits_with_2() -> None:
    assert exit_code("next", make().pk, "--count", 0)[0] == 2


@pytest.mark.parametrize("limit", [-5, 0, 100_001])
def test_a_limit_that_makes_no_sense_exits_with_2(limit: int) -> None:
    expected = f"--limit: expected a whole number from 1 to 100000, got: {limit}"
    assert exit_code("list", f"--limit={limit}") == (2, expected)


def test_a_number_of_runs_that_makes_no_sense_exits_with_2_and_none_is_a_number() -> None:
    made = make()
    api.run_schedule(made.pk)
    for runs in (-1, 1_001):
        expected = f"--runs: expected a whole number from 0 to 1000, got: {runs}"
        assert exit_code("show", made.pk, f"--runs={runs}") == (2, expected)
    (shown,) = run_json("show", made.pk, "--runs", 0)
    assert shown["runs"] == []


def test_a_database_that_is_not_migrated_exits_with_4() -> None:
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM django_migrations WHERE app = 'scheduler' AND name >= '0002'")
    code, message = exit_code("list")
    assert code == 4
    assert "scheduler" in message
    assert "manage.py migrate" in message


def test_settings_that_are_wrong_exit_with_2(settings) -> None:  # type: ignore[no-untyped-def]
    settings.SCHEDULER = {"GRACE": 1}
    code, message = exit_code("list")
    assert code == 2
    assert "SCHEDULER: expected keys among" in message


def test_a_stored_time_zone_that_means_nothing_exits_with_2() -> None:
    made = make()
    PgPeriodicSchedule.objects.update(timezone="Mars/Olympus")
    for count in ("1", "10"):
        with pytest.raises(CommandError, match="Mars/Olympus") as refused:
            call_command("schedules", "next", str(made.pk), "--count", count)
        assert refused.value.returncode == 2


def test_a_pause_may_end_by_itself(hands: Hands) -> None:
    made = make()
    run("pause", made.pk, "--until", "2026-03-03T09:00:00+05:30")
    assert api.get_schedule(made.pk).paused_until == at("2026-03-03 03:30:00")
    with pytest.raises(CommandError, match="--until: expected an ISO 8601 instant"):
        run("pause", made.pk, "--until", "tomorrow")
    with pytest.raises(CommandError, match="paused_until: expected an instant after now"):
        run("pause", made.pk, "--until", "2026-03-02T00:00:00Z")


def test_the_preview_is_side_by_side_and_says_why_the_sides_differ() -> None:
    made = make(expression="30 2 * * *", timezone="Europe/Berlin")
    [found] = run_json("preview", made.pk, "--count", 2)
    assert [one["pg"] for one in found["results"]] == [one["beat"] for one in found["results"]]
    assert len(found["results"]) == 2
    text = run("preview", made.pk)
    assert "the clock of Europe/Berlin changes from +01:00 to +02:00" in text
    assert "spring_gap: Where the clock jumps forward" in text
    assert "the clock of UTC" not in run("preview", make().pk)


def test_the_preview_of_what_nothing_lies_ahead_of_says_so() -> None:
    made = make()
    PgPeriodicSchedule.objects.filter(pk=made.pk).update(next_run_at=None)
    assert "Nothing is ahead of it." in run("preview", made.pk)
    assert exit_code("preview", made.pk, "--count", 1001)[0] == 2


def test_the_forecast_names_the_busiest_minutes() -> None:
    for _ in range(3):
        make(expression="30 4 * * *")
    make(organization_id="acme")
    [found] = run_json("forecast", "--hours", 25, "--top", 1)
    assert (len(found["fires"]), found["schedules"]) == (25 * 60, 4)
    [busiest] = found["busiest"]
    assert (busiest["at"][11:], busiest["fires"]) == ("04:30:00Z", 4)
    text = run("forecast", "--hours", 25)
    assert text.startswith("4 schedules are fired")
    assert "3 × 30 4 * * * UTC" in text
    assert run_json("forecast", "--organization", "acme")[0]["schedules"] == 1
    assert exit_code("forecast", "--hours", 200)[0] == 2


def test_the_preview_warns_of_a_crowded_minute(settings: Any) -> None:
    settings.SCHEDULER = {"HERD_WARNING": 2}
    made, *_ = [make(expression="30 4 * * *") for _ in range(4)]
    assert "3 other schedules begin in the same minute as this one" in run("preview", made.pk)
    assert run_json("preview", made.pk, "--count", 1)[0]["herd"]["jitter_seconds"] == 120
