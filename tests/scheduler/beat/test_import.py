"""The import of Beat's rows and of `beat_schedule`: mirrors with certificates, while Beat goes on firing them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from celery import current_app
from celery.schedules import BaseSchedule, crontab, solar
from django.core.management import CommandError, call_command
from django.db import connection
from django.utils.timezone import now
from django_celery_beat.models import (
    ClockedSchedule,
    CrontabSchedule,
    IntervalSchedule,
    PeriodicTask,
    PeriodicTasks,
    SolarSchedule,
)
from django_celery_beat.schedulers import ModelEntry

from scheduler import api
from scheduler.api import PgPeriodicSchedule, ScheduleRun
from scheduler.beat.certificate import Certificate
from scheduler.beat.names import CANARY_PREFIX, schedule_id_for
from scheduler.models import BeatLink, ScheduleChange
from tests.scheduler.schedules.conftest import Hands
from tests.scheduler.schedules.making import at, make

pytestmark = pytest.mark.django_db

REAL_SCHEDULES = Path(__file__).parents[4] / "shared" / "data" / "beat_schedules.jsonl"


def beats(name: str = "report", **columns: Any) -> PeriodicTask:
    """Beat's row of this name: 06:30 of each working day in Berlin, but for `columns`."""
    if not {"crontab", "interval", "clocked", "solar"} & columns.keys():
        columns["crontab"] = CrontabSchedule.objects.create(
            minute="30", hour="6", day_of_week="mon-fri", timezone="Europe/Berlin"
        )
    return PeriodicTask.objects.create(name=name, **{"task": "tests.count", **columns})


def run(*arguments: object, code: int = 0) -> str:
    """What the command writes to stdout, once it has ended with this code."""
    written = StringIO()
    ended = 0
    try:
        call_command("import_beat", *map(str, arguments), stdout=written, stderr=StringIO())
    except CommandError as error:
        ended = error.returncode
    assert ended == code, written.getvalue()
    return written.getvalue()


def run_json(*arguments: object, code: int = 0, event: str = "schedule") -> list[dict[str, Any]]:
    """The objects of this kind that it writes with `--json`."""
    lines = map(json.loads, run(*arguments, "--json", code=code).splitlines())
    return [line for line in lines if line["event"] == event]


def imported(name: str = "report") -> PgPeriodicSchedule:
    return PgPeriodicSchedule.objects.get(beat_name=name)


def remarks(line: dict[str, Any]) -> dict[str, str]:
    return {remark["about"]: remark["text"] for remark in line["remarks"]}


@pytest.fixture
def conf() -> Iterator[dict[str, Any]]:
    """`beat_schedule` of the project's Celery app, to be filled."""
    before, entries = current_app.conf.beat_schedule, {}
    current_app.conf.beat_schedule = entries
    yield entries
    current_app.conf.beat_schedule = before


def test_a_row_becomes_a_schedule_that_beat_fires(hands: Hands) -> None:
    task = beats(
        args='["a"]',
        kwargs='{"b": 1}',
        queue="reports",
        priority=7,
        expires=at("2090-01-01 00:00:00"),
        start_time=at("2026-01-01 00:00:00"),
        description="Sends it.\nSee the wiki.",
    )
    run("--organization", "acme")
    row = imported()
    assert row.pipeline_id == schedule_id_for("report")
    assert (row.pipeline_name, row.organization_id, row.firer, row.enabled) == ("report", "acme", "beat", True)
    assert (row.kind, row.cron_string, row.timezone, row.dialect) == (
        "crontab", "30 6 * * mon-fri", "Europe/Berlin", "celery",
    )  # fmt: skip
    assert (row.task, row.args, row.kwargs, row.queue, row.priority) == ("tests.count", ["a"], {"b": 1}, "reports", 7)
    assert (row.starts_at, row.ends_at, row.run_limit) == (task.start_time, task.expires, None)
    assert row.next_run_at == at("2026-03-03 05:30:00")
    assert ScheduleChange.objects.get(schedule_id=row.pk).action == "import"


def test_the_import_leaves_beats_row_as_it_is() -> None:
    beats()
    before = PeriodicTask.objects.values().get()
    stamp = PeriodicTasks.last_change()
    run()
    assert PeriodicTask.objects.values().get() == before
    assert PeriodicTasks.last_change() == stamp


def test_rows_of_every_kind_are_imported(hands: Hands) -> None:
    beats("every", interval=IntervalSchedule.objects.create(every=90, period="minutes"), last_run_at=hands.now)
    beats("once", clocked=ClockedSchedule.objects.create(clocked_time=at("2026-12-24 18:00:00")), one_off=True)
    place = {"latitude": Decimal("52.52"), "longitude": Decimal("13.405")}
    beats("sun", solar=SolarSchedule.objects.create(event="sunset", **place))
    verdicts = {line["name"]: line["verdict"] for line in run_json()}
    assert verdicts == {"every": "equal", "once": "equal", "sun": "equal"}
    assert {(row.beat_name, row.kind, row.cron_string) for row in PgPeriodicSchedule.objects.all()} == {
        ("every", "interval", "PT90M"),
        ("once", "clocked", "2026-12-24T18:00:00Z"),
        ("sun", "solar", "sunset 52.52 13.405"),
    }
    assert imported("every").next_run_at == hands.now + timedelta(minutes=90)
    assert imported("once").next_run_at == at("2026-12-24 18:00:00")


def test_an_interval_goes_on_from_beats_last_send_without_a_burst(hands: Hands) -> None:
    every = IntervalSchedule.objects.create(every=1, period="hours")
    beats(interval=every, last_run_at=at("2026-03-01 00:20:00"))
    run()
    assert imported().next_run_at == at("2026-03-02 10:20:00")
    assert not ScheduleRun.objects.exists()


def test_a_disabled_row_is_imported_as_a_paused_schedule(hands: Hands) -> None:
    beats(enabled=False)
    run()
    row = imported()
    assert (row.state, row.pause_note, row.paused_at) == ("paused", "disabled in Celery Beat", hands.now)


@pytest.mark.parametrize(("sent", "state"), [(0, "active"), (1, "ended")])
def test_a_one_off_that_was_sent_has_no_occurrence_left(sent: int, state: str) -> None:
    beats(one_off=True, total_run_count=sent)
    run()
    assert (imported().run_limit, imported().state) == (1, state)


def test_the_id_is_the_same_for_one_name_whenever_it_is_imported() -> None:
    beats()
    run()
    first = imported().pk
    PgPeriodicSchedule.objects.all().delete()
    BeatLink.objects.all().delete()
    run()
    assert imported().pk == first


def test_the_certificate_is_kept_with_the_schedule() -> None:
    beats()
    [line] = run_json("--occurrences", 7)
    link = BeatLink.objects.get(schedule_id=imported().pk)
    kept = Certificate.from_json(link.certificate)
    assert (line["verdict"], line["certificate"]) == ("differs by spring_gap" if kept.rule else "equal", kept.as_json())
    assert kept.compared >= 7
    assert (link.beat_name, link.beat_id, link.source) == ("report", PeriodicTask.objects.get().pk, "periodic_task")


def test_a_difference_is_named_by_its_rule(hands: Hands) -> None:
    beats(crontab=CrontabSchedule.objects.create(minute="30", hour="2", timezone="Europe/Berlin"))
    title, line, *_ = run().splitlines()
    assert title.split() == ["name", "kind", "expression", "timezone", "verdict"]
    assert line.split("  ") == ["report", "crontab", "30 2 * * *", "Europe/Berlin", "differs by spring_gap"]


def test_a_second_import_changes_nothing_and_says_so(hands: Hands) -> None:
    beats("one")
    beats("two", headers='{"a": 1}')
    run()
    tables = (PgPeriodicSchedule, BeatLink, ScheduleChange)
    before = [list(table.objects.order_by("pk").values()) for table in tables]
    hands.set("2026-03-05 10:00:00")
    assert run("--organization", "other") == "Nothing to import: 2 have a mirror already.\n"
    assert [list(table.objects.order_by("pk").values()) for table in tables] == before
    assert {line["status"] for line in run_json()} == {"unchanged"}
    assert {line["verdict"] for line in run_json()} == {"equal"}


def test_a_dry_run_reports_the_same_and_stores_nothing(hands: Hands, conf: dict[str, Any]) -> None:
    beats(headers='{"a": 1}')
    conf["nightly"] = {"task": "tests.count", "schedule": crontab(minute="0", hour="3")}
    before = PeriodicTask.objects.count(), CrontabSchedule.objects.count()
    dry = run_json("--dry-run")
    assert (PeriodicTask.objects.count(), CrontabSchedule.objects.count()) == before
    assert not any(table.objects.exists() for table in (PgPeriodicSchedule, BeatLink, ScheduleChange))
    assert "2 would be imported." in run("--dry-run")
    assert run_json() == dry


UNREADABLE: dict[str, tuple[dict[str, Any], str]] = {
    "half a second": (
        {"interval": {"every": 500_000, "period": "microseconds"}},
        "expression: expected a duration of at least 1 second",
    ),
    "a crontab that means nothing": ({"crontab": {"minute": "59/15"}}, "expression: expected"),
    "a crontab that never occurs": (
        {"crontab": {"minute": "0", "hour": "0", "day_of_month": "30", "month_of_year": "2"}},
        "expression: expected an expression that has an occurrence",
    ),
    "arguments that are no JSON": ({"args": "theirs"}, "args: expected JSON of a list"),
    "arguments that are no list": ({"args": '{"a": 1}'}, "args: expected JSON of a list"),
    "an argument that jsonb cannot hold": ({"kwargs": '{"a": "\\u0000"}'}, "kwargs: expected"),
    "a queue's name that is too long": ({"queue": "q" * 129}, "queue: expected a name of at most 128 characters"),
    "an end before its start": (
        {"start_time": at("2026-03-02 00:00:00"), "expires": at("2026-03-01 00:00:00")},
        "ends_at: expected an instant after starts_at",
    ),
}
_MODELS: dict[str, Any] = {"crontab": CrontabSchedule, "interval": IntervalSchedule}


@pytest.mark.parametrize("case", UNREADABLE)
def test_a_row_that_cannot_be_imported_is_reported_and_stops_none(case: str) -> None:
    columns, reason = UNREADABLE[case]
    made = {name: _MODELS[name].objects.create(**value) for name, value in columns.items() if name in _MODELS}
    beats("bad", **{**columns, **made})
    beats("good")
    bad, good = run_json(code=6)
    assert (bad["name"], bad["status"], good["name"], good["status"]) == ("bad", "refused", "good", "imported")
    assert bad["reason"].startswith(reason)
    assert bad["verdict"] == f"not imported: {bad['reason']}"
    assert [row.beat_name for row in PgPeriodicSchedule.objects.all()] == ["good"]


def test_a_row_that_the_database_refuses_is_reported_and_stops_none() -> None:
    beats("bad", task="no such")
    beats("good")
    with connection.cursor() as cursor:
        cursor.execute(
            "ALTER TABLE scheduler_pgperiodicschedule ADD CONSTRAINT refused CHECK (task <> 'no such')",
        )
    bad, good = run_json(code=6)
    assert bad["reason"].startswith("IntegrityError: ")
    assert good["status"] == "imported"


EXTRAS: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "exchange": ({"exchange": "x"}, {"exchange": "x"}, "exchange 'x' means nothing after a cutover"),
    "routing_key": ({"routing_key": "r"}, {"routing_key": "r"}, "routing_key 'r' means nothing after a cutover"),
    "headers": ({"headers": '{"h": 1}'}, {"headers": {"h": 1}}, 'the headers {"h": 1} are not passed on'),
    "expire_seconds": ({"expire_seconds": 60}, {"expire_seconds": 60}, "drops a message that is older than 60 s"),
    "priority": ({"priority": 200}, {"priority": 200}, "priority 200 becomes 10 after a cutover"),
    "task": ({"task": "elsewhere.task"}, {}, "the task 'elsewhere.task' is not registered in this project"),
    "queue": ({"queue": "a b"}, {}, "no queue here can be named 'a b'"),
    "kwargs": (
        {"kwargs": '{"day": {"__type__": "date", "__value__": "2026-03-02"}}'},
        {},
        "reaches the task as that type from Celery",
    ),
    "crontab": ({}, {}, "fires every minute of the hours 6: its minute is '*'"),
}


@pytest.mark.parametrize("about", EXTRAS)
def test_what_a_schedule_here_cannot_hold_is_kept_and_remarked_on(about: str) -> None:
    columns, kept, text = EXTRAS[about]
    if about == "crontab":
        columns = {"crontab": CrontabSchedule.objects.create(minute="*", hour="6")}
    beats(**columns)
    [line] = run_json()
    assert line["status"] == "imported"
    assert list(remarks(line)) == [about]
    assert text in remarks(line)[about]
    assert BeatLink.objects.get().extras == kept


def test_nothing_is_remarked_on_an_ordinary_row() -> None:
    beats(crontab=CrontabSchedule.objects.create(minute="*"))
    assert [line["remarks"] for line in run_json()] == [[]]


def test_celerys_own_clean_up_is_imported_with_a_remark() -> None:
    beats("celery.backend_cleanup", task="celery.backend_cleanup")
    [line] = run_json()
    assert line["status"] == "imported"
    assert remarks(line)["task"].startswith("Celery's own clean-up")


def test_schedules_made_here_and_canaries_are_left_alone() -> None:
    make(firer="beat")
    make()
    lost = make(firer="beat")
    PgPeriodicSchedule.objects.filter(pk=lost.pk).delete()
    beats(f"{CANARY_PREFIX}1")
    assert run() == "Nothing to import.\n"
    assert run_json() == []
    assert not BeatLink.objects.exists()


def test_entries_of_the_configuration_are_written_as_beat_would_and_imported(conf: dict[str, Any]) -> None:
    conf["nightly"] = {"task": "tests.count", "schedule": crontab(minute="0", hour="3"), "args": (1,)}
    conf["every"] = {"task": "tests.count", "schedule": 30.0, "options": {"queue": "fast", "expires": 15}}
    conf["half hourly"] = {"task": "tests.count", "schedule": timedelta(minutes=30)}
    conf["sunset"] = {"task": "tests.count", "schedule": solar("sunset", 52.52, 13.405)}
    stamp = now() + timedelta(hours=1)  # by a clock that goes ahead
    PeriodicTasks.objects.update_or_create(ident=1, defaults={"last_update": stamp})
    lines = {line["name"]: line for line in run_json()}
    assert {name: (line["status"], line["source"]) for name, line in lines.items()} == {
        name: ("imported", "app_conf") for name in conf
    }
    assert PeriodicTasks.last_change() > stamp
    assert (imported("nightly").cron_string, imported("nightly").args) == ("0 3 * * *", [1])
    assert (imported("every").cron_string, imported("every").queue) == ("PT30S", "fast")
    assert "drops the options expires" in remarks(lines["every"])["options"]
    written = list(PeriodicTask.objects.order_by("name").values("name", "task", "args", "kwargs", "queue", "headers"))
    for name, entry in conf.items():
        ModelEntry.from_entry(name, **entry)
    again = PeriodicTask.objects.order_by("name").values("name", "task", "args", "kwargs", "queue", "headers")
    assert list(again) == written


def test_an_entry_that_has_a_row_is_not_written_again(conf: dict[str, Any]) -> None:
    beats("nightly", args='["edited"]')
    conf["nightly"] = {"task": "tests.count", "schedule": crontab(minute="0", hour="3"), "args": (1,)}
    [line] = run_json()
    assert (line["status"], line["source"]) == ("imported", "app_conf")
    assert imported("nightly").args == ["edited"]
    assert PeriodicTask.objects.get().args == '["edited"]'


class Tide(BaseSchedule):
    """A schedule of a project's own."""

    def is_due(self, last_run_at: Any) -> Any:
        return False, 60


@pytest.mark.parametrize("schedule", [Tide(), 0.5, timedelta(seconds=1.5), None], ids=lambda it: type(it).__name__)
def test_an_entry_that_dcb_cannot_hold_is_reported_and_leaves_no_row(schedule: Any, conf: dict[str, Any]) -> None:
    conf["odd"] = {"task": "tests.count", "schedule": schedule}
    [line] = run_json(code=6)
    assert (line["status"], line["source"]) == ("refused", "app_conf")
    assert line["reason"].startswith("schedule: expected ")
    assert not PeriodicTask.objects.exists()


@pytest.mark.parametrize(
    ("entry", "field"),
    [
        ({"task": "tests.count", "args": (object(),)}, "args"),
        ({"task": "tests.count", "kwargs": {"when": {1}}}, "kwargs"),
        ({}, "task"),
        ({"task": None}, "task"),
    ],
)
def test_an_entry_that_is_no_entry_is_refused_once_under_the_field_that_is_wrong(
    entry: dict[str, Any], field: str, conf: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    conf["odd"] = {"schedule": 60, **entry}
    [line] = run_json(code=6)
    assert line["status"] == "refused"
    assert line["reason"].startswith(f"{field}: expected ")
    assert not PeriodicTask.objects.exists()
    assert "import.refused" not in caplog.text


def test_herds_are_pointed_out() -> None:
    five = CrontabSchedule.objects.create(minute="0", hour="5")
    for number in range(12):
        beats(f"herd {number:02}", crontab=five)
    [herd] = run_json("--dry-run", event="herd")
    assert (len(herd["schedules"]), herd["minutes"], herd["first_at"][10:]) == (12, 1, "T05:00:00Z")
    assert "12 schedules are due in one minute, 05:00 UTC (herd 00, herd 01, herd 02, …)" in run()


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--organization", "a b", "--organization: expected text without spaces, got: 'a b'"),
        ("--occurrences", 0, "--occurrences: expected a whole number from 1 to 1000, got: 0"),
    ],
)
def test_a_wrong_option_is_refused(option: str, value: object, message: str) -> None:
    with pytest.raises(CommandError, match=message) as refused:
        call_command("import_beat", option, str(value))
    assert refused.value.returncode == 2


def real_entries() -> Iterator[tuple[str, dict[str, Any]]]:
    for number, line in enumerate(REAL_SCHEDULES.open(encoding="utf-8")):
        yield f"{number:03}", json.loads(line)


def write_real(number: str, entry: dict[str, Any]) -> None:
    times: dict[str, Any]
    if entry["kind"] == "crontab":
        fields = {name: str(value) for name, value in entry["crontab"].items()}
        times = {"crontab": CrontabSchedule.objects.create(**fields, timezone=entry["timezone"] or "UTC")}
    elif entry["kind"] == "interval":
        times = {"interval": IntervalSchedule.objects.create(every=entry["every_seconds"], period="seconds")}
    else:
        sun = entry["solar"]
        place = {key: Decimal(str(sun[short])).quantize(Decimal("0.000001")) for key, short in _PLACE}
        times = {"solar": SolarSchedule.objects.get_or_create(event=sun["event"], **place)[0]}
    args, kwargs = json.dumps(entry["args"] or []), json.dumps(entry["kwargs"] or {})
    name = f"{number} {entry['project']} {entry['name']}"[:200]
    beats(name, task=entry["task"], args=args, kwargs=kwargs, queue=(entry["options"] or {}).get("queue"), **times)


_PLACE = (("latitude", "lat"), ("longitude", "lon"))


@pytest.mark.skipif(not REAL_SCHEDULES.exists(), reason="absent: shared/data/beat_schedules.jsonl")
def test_every_real_schedule_is_imported_with_a_certificate_that_is_equal_or_explained() -> None:
    for number, entry in real_entries():
        write_real(number, entry)
    lines = run_json()
    assert len(lines) > 300
    assert {line["status"] for line in lines} == {"imported"}
    verdicts = {line["verdict"] for line in lines}
    assert verdicts <= {"equal", "differs by repeated_hour", "differs by spring_gap"}
    mistakes = [line["expression"] for line in lines if "crontab" in remarks(line)]
    assert mistakes
    assert all(expression.startswith("* ") for expression in mistakes)
    assert api.PgPeriodicSchedule.objects.filter(firer="beat").count() == len(lines)
