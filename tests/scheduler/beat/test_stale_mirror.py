"""While Beat fires its row is the primary one: what it says outlives a mirror that missed it, and a later edit here."""

from __future__ import annotations

import json
import uuid
from datetime import timedelta
from typing import Any

import pytest
from django_celery_beat.models import CrontabSchedule, IntervalSchedule, PeriodicTask

from scheduler import api
from scheduler.api import MirrorFailure, PgPeriodicSchedule, ScheduleRun
from scheduler.beat import mirror, rows
from tests.scheduler.beat.test_mirror_failures import raising
from tests.scheduler.schedules.conftest import Hands
from tests.scheduler.schedules.making import at, make

pytestmark = pytest.mark.django_db(transaction=True)

CHANGES: dict[str, Any] = {
    "update of the arguments": lambda pk: api.update_schedule(pk, args=["changed"]),
    "update of the expression": lambda pk: api.update_schedule(pk, expression="7 3 * * 7", timezone="Asia/Tokyo"),
    "pause": lambda pk: api.pause_schedule(pk, reason="why"),
    "resume": lambda pk: api.resume_schedule(pk),
}
OTHERS: dict[str, Any] = {
    "update": lambda pk: api.update_schedule(pk, priority=7),
    "pause": lambda pk: api.pause_schedule(pk, reason="later"),
    "resume": lambda pk: api.resume_schedule(pk),
}


def beats(pk: uuid.UUID) -> PeriodicTask:
    return PeriodicTask.objects.select_related("crontab", "interval", "clocked").get(name=str(pk))


def said(pk: uuid.UUID) -> dict[str, Any]:
    """What Beat's row says of the schedule, but for what `OTHERS` change."""
    task = beats(pk)
    columns = ("task", "args", "kwargs", "queue", "start_time", "expires", "expire_seconds", "description", "one_off")
    return {column: getattr(task, column) for column in columns} | {
        "crontab": str(task.crontab),
        "interval": str(task.interval),
        "clocked": str(task.clocked),
    }


def edit_in_beats_admin(pk: uuid.UUID, **columns: Any) -> None:
    """As its bulk actions do: no signal tells of it."""
    PeriodicTask.objects.filter(name=str(pk)).update(**columns)


@pytest.mark.parametrize("is_recorded", [True, False], ids=["", "and the failure was not recorded"])
@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize("change", CHANGES)
def test_a_change_whose_mirror_write_was_lost_outlives_the_next_one(change: str, other: str, is_recorded: bool) -> None:
    made = make(firer="beat", enabled=change != "resume")
    with raising():
        CHANGES[change](made.pk)
    if not is_recorded:
        MirrorFailure.objects.all().delete()
    first, is_enabled = said(made.pk), beats(made.pk).enabled
    OTHERS[other](made.pk)
    is_enabled = {"pause": False, "resume": True}.get(other, is_enabled)
    assert (said(made.pk), beats(made.pk).enabled) == (first, is_enabled)
    assert rows.is_paused_by_us(beats(made.pk)) is not is_enabled
    mirrored = PgPeriodicSchedule.objects.get(pk=made.pk)
    assert (mirrored.enabled, mirrored.args) == (is_enabled, json.loads(first["args"]))
    if change == "update of the expression":
        assert (mirrored.cron_string, mirrored.timezone) == ("7 3 * * 7" if is_recorded else "7 3 * * 0", "Asia/Tokyo")
    if change == "pause" and is_recorded and other == "update":
        assert mirrored.pause_note == "why"
    assert not api.mirror_failures().exists()


def test_a_pause_that_the_mirror_missed_is_not_lifted_by_an_edit_behind_a_locked_mirror(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = make(firer="beat")
    with raising():
        api.pause_schedule(made.pk)
    monkeypatch.setattr(mirror, "_write", lambda *_: 1 / 0)
    api.update_schedule(made.pk, priority=7)
    assert (beats(made.pk).enabled, beats(made.pk).priority) == (False, 7)
    assert MirrorFailure.objects.filter(schedule_id=made.pk, repaired_at=None).count() == 2


def test_what_a_resume_leaves_out_is_in_the_ledger_although_the_mirror_missed_the_resume(hands: Hands) -> None:
    made = make(firer="beat")
    api.pause_schedule(made.pk)
    hands.set("2026-03-02 10:21:00")
    with raising():
        api.resume_schedule(made.pk)
    hands.set("2026-03-02 10:31:00")
    api.update_schedule(made.pk, priority=7)
    run = ScheduleRun.objects.get(schedule_id=made.pk)
    assert (run.state, run.scheduled_for, run.span_end) == (
        "paused",
        at("2026-03-02 10:10:00"),
        at("2026-03-02 10:20:00"),
    )


EDITS: dict[str, dict[str, Any]] = {
    "task": {"task": "tests.other"},
    "arguments": {"args": '[ "theirs" ]', "kwargs": '{"a":  1}'},
    "no arguments": {"args": "", "kwargs": ""},
    "arguments that are no JSON": {"args": "theirs"},
    "queue": {"queue": "slow"},
    "no queue": {"queue": None},
    "ends": {"expires": at("2090-01-01 00:00:00")},
    "starts": {"start_time": at("2020-01-01 00:00:00")},
    "expire_seconds": {"expire_seconds": 60},
    "once": {"one_off": True},
    "name": {"description": "Theirs"},
    "notes": {"description": "Theirs\nof two lines"},
    "no description": {"description": ""},
}


@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize("edit", EDITS)
def test_an_edit_in_beats_admin_outlives_a_later_change_here(edit: str, other: str) -> None:
    made = make(firer="beat", args=["ours"], expression="@hourly")
    edit_in_beats_admin(made.pk, **EDITS[edit])
    theirs = said(made.pk)
    OTHERS[other](made.pk)
    assert said(made.pk) == theirs
    assert PgPeriodicSchedule.objects.get(pk=made.pk).cron_string == "@hourly"


def test_the_mirror_takes_over_what_was_edited_in_beats_admin() -> None:
    made = make(firer="beat")
    edit_in_beats_admin(
        made.pk,
        task="tests.other",
        args='["theirs"]',
        kwargs='{"a": 1}',
        queue=None,
        priority=200,
        description="Theirs",
        start_time=at("2020-01-01 00:00:00"),
        expires=at("2090-01-01 00:00:00"),
    )
    api.update_schedule(made.pk, grace_seconds=60)
    row = PgPeriodicSchedule.objects.get(pk=made.pk)
    assert (row.task, row.args, row.kwargs, row.queue) == ("tests.other", ["theirs"], {"a": 1}, "default")
    assert (row.priority, row.pipeline_name, row.grace_seconds) == (10, "Theirs", 60)
    assert (row.starts_at, row.ends_at) == (at("2020-01-01 00:00:00"), at("2090-01-01 00:00:00"))
    assert (beats(made.pk).priority, beats(made.pk).queue) == (200, None)


def test_an_edit_here_writes_what_it_names() -> None:
    made = make(firer="beat")
    edit_in_beats_admin(made.pk, queue="theirs", description="Theirs", args="[1]")
    api.update_schedule(made.pk, queue="ours", name="Ours")
    task = beats(made.pk)
    assert (task.queue, task.description, task.args) == ("ours", "Ours", "[1]")


@pytest.mark.parametrize("other", OTHERS)
def test_a_cadence_edited_in_beats_admin_outlives_a_later_change_here(other: str) -> None:
    made = make(firer="beat")
    every = IntervalSchedule.objects.create(every=90, period="minutes")
    edit_in_beats_admin(made.pk, crontab=None, interval=every)
    OTHERS[other](made.pk)
    assert (beats(made.pk).interval, beats(made.pk).crontab) == (every, None)
    row = PgPeriodicSchedule.objects.get(pk=made.pk)
    assert (row.kind, row.cron_string, row.interval_seconds) == ("interval", "PT90M", 5400)


def test_a_crontab_and_a_time_zone_edited_in_beats_admin_are_taken_over(hands: Hands) -> None:
    made = make(firer="beat", expression="0 6 * * 7")
    theirs = CrontabSchedule.objects.create(minute="30", hour="6", day_of_week="mon-fri", timezone="Europe/Paris")
    PeriodicTask.objects.filter(name=str(made.pk)).update(crontab=theirs, last_run_at=hands.now)
    api.update_schedule(made.pk, priority=7)
    row = PgPeriodicSchedule.objects.get(pk=made.pk)
    assert (row.cron_string, row.timezone, row.dialect) == ("30 6 * * mon-fri", "Europe/Paris", "celery")
    assert row.next_run_at == at("2026-03-03 05:30:00")
    assert beats(made.pk).crontab == theirs


@pytest.mark.parametrize(
    ("expression", "minute", "weekday"),
    [("*/20 * * * 7", "0,20,40", "0"), ("0-59/20 * * * sun", "*/20", "sun"), ("@weekly", "0", "sun")],
)
def test_where_beats_row_means_the_same_both_keep_their_spelling(expression: str, minute: str, weekday: str) -> None:
    made = make(firer="beat", expression=expression)
    hour = "0" if expression == "@weekly" else "*"
    theirs = CrontabSchedule.objects.create(minute=minute, hour=hour, day_of_week=weekday, timezone="Europe/Paris")
    edit_in_beats_admin(made.pk, crontab=theirs)
    api.update_schedule(made.pk, priority=7)
    row = PgPeriodicSchedule.objects.get(pk=made.pk)
    assert (row.cron_string, row.dialect, row.timezone) == (expression, "unix", "Europe/Paris")
    assert beats(made.pk).crontab == theirs


def test_an_interval_in_another_unit_means_the_same(hands: Hands) -> None:
    made = make(firer="beat", kind="interval", expression="PT2M")
    edit_in_beats_admin(made.pk, interval=IntervalSchedule.objects.create(every=120, period="seconds"))
    api.update_schedule(made.pk, priority=7)
    row = PgPeriodicSchedule.objects.get(pk=made.pk)
    assert (row.cron_string, row.next_run_at) == ("PT2M", made.next_run_at)
    assert beats(made.pk).interval.period == "seconds"


def test_a_cadence_that_no_schedule_here_can_hold_is_left_alone_until_it_is_edited_here() -> None:
    made = make(firer="beat")
    half = IntervalSchedule.objects.create(every=500_000, period="microseconds")
    edit_in_beats_admin(made.pk, crontab=None, interval=half)
    before = said(made.pk)
    for change in OTHERS.values():
        change(made.pk)
        assert said(made.pk) == before
    api.update_schedule(made.pk, expression="*/5 * * * *")
    task = beats(made.pk)
    assert (task.crontab.minute, task.interval, task.clocked, task.one_off) == ("*/5", None, None, False)


def test_a_row_disabled_in_beats_admin_stays_so_and_is_paused_since_then(hands: Hands) -> None:
    made = make(firer="beat")
    disabled_at = hands.set("2026-03-02 10:21:00")
    edit_in_beats_admin(made.pk, enabled=False, last_run_at=None, date_changed=disabled_at)
    hands.set("2026-03-02 11:01:00")
    changed = api.update_schedule(made.pk, priority=7)
    assert (changed.enabled, changed.paused_at, changed.next_run_at) == (
        False,
        disabled_at,
        at("2026-03-02 10:25:00"),
    )
    assert beats(made.pk).enabled is False
    hands.set("2026-03-02 11:16:00")
    api.resume_schedule(made.pk)
    run = ScheduleRun.objects.get(schedule_id=made.pk)
    assert (run.state, run.scheduled_for, run.span_end) == (
        "paused",
        at("2026-03-02 10:25:00"),
        at("2026-03-02 11:15:00"),
    )


def test_a_row_enabled_in_beats_admin_stays_so(hands: Hands) -> None:
    made = make(firer="beat")
    api.pause_schedule(made.pk, reason="ours", until=at("2026-03-09 00:00:00"))
    hands.now += timedelta(days=1)
    edit_in_beats_admin(made.pk, enabled=True, last_run_at=hands.now)
    changed = api.update_schedule(made.pk, priority=7)
    assert (changed.state, changed.paused_at, changed.pause_note, changed.paused_until) == ("active", None, "", None)
    assert changed.next_run_at == at("2026-03-03 10:10:00")
    task = beats(made.pk)
    assert (task.enabled, task.last_run_at, rows.is_paused_by_us(task)) == (True, hands.now, False)
