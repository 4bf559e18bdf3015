"""/api/v1/runs/, /tasks/ and /messages/: reading what happened."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection

from backend.api.pagination import beyond
from backend.api.views.runs import RUN_KEYSET
from pg_queue import api as queue
from pg_queue.domain import Settlement, Success
from scheduler import api

pytestmark = pytest.mark.django_db
URL = "/api/v1/runs/"
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def ledger(schedule, **values):
    row = {
        "id": uuid.uuid4(),
        "schedule_id": schedule.pk,
        "organization_id": schedule.organization_id,
        "scheduled_for": NOON,
        "firer": "pg",
        "state": "succeeded",
        "fired_at": NOON,
        **values,
    }
    return api.ScheduleRun.objects.create(**row)


def test_a_run_shows_every_field(rest, make_schedule):
    schedule = make_schedule()
    run = ledger(schedule, started_at=NOON, finished_at=NOON, result={"rows": 3})
    assert rest.get(f"{URL}{run.pk}/").json() == {
        "id": str(run.pk),
        "schedule": str(schedule.pk),
        "organization": "default",
        "origin": "schedule",
        "scheduled_for": "2026-03-01T12:00:00Z",
        "span_end": None,
        "occurrences": 1,
        "firer": "pg",
        "state": "succeeded",
        "fired_at": "2026-03-01T12:00:00Z",
        "relayed_at": None,
        "started_at": "2026-03-01T12:00:00Z",
        "finished_at": "2026-03-01T12:00:00Z",
        "result": {"rows": 3},
        "error": None,
    }


def test_a_run_shows_what_the_queue_knows_before_the_ledger_does(rest, make_schedule):
    run = api.run_schedule(make_schedule().pk)

    def shown():
        (listed,) = rest.get(URL).json()["results"]
        assert listed == rest.get(f"{URL}{run.pk}/").json()
        return listed

    assert shown()["state"] == "fired"
    (claim,) = queue.store().claim(queues=["default"], limit=1, lease=timedelta(minutes=1), worker="w")
    assert (shown()["state"], shown()["started_at"] is not None) == ("running", True)
    settlement = Settlement(message_id=run.pk, token=claim.token, outcome=Success(value={"rows": 3}))
    queue.store().settle([settlement])
    assert (shown()["state"], shown()["result"]) == ("succeeded", {"rows": 3})
    assert api.ScheduleRun.objects.get().state == "fired", "the ledger has not heard of it yet"


def test_runs_of_one_minute_are_paged_without_losing_or_repeating_one(rest, make_schedule):
    made = {str(ledger(make_schedule(name=f"n{n}")).pk) for n in range(5)}
    made |= {str(ledger(make_schedule(name="m"), scheduled_for=NOON - timedelta(hours=1)).pk)}
    seen, url = [], f"{URL}?page_size=2"
    while url:
        page = rest.get(url).json()
        seen += [row["id"] for row in page["results"]]
        url = page["next"]
    assert len(seen) == len(set(seen)) == 6
    assert set(seen) == made


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("state=failed", {"failed"}),
        ("state=failed&state=paused", {"failed", "paused"}),
        ("state=running", {"fired"}),
        ("origin=manual", {"fired"}),
        ("scheduled_for_after=2026-03-01T12:30:00Z", {"failed"}),
        ("scheduled_for_before=2026-03-01T12:30:00Z", {"succeeded", "paused", "fired"}),
    ],
)
def test_filters(rest, make_schedule, query, expected):
    schedule = make_schedule()
    ledger(schedule)
    ledger(schedule, state="failed", scheduled_for=NOON + timedelta(hours=1))
    ledger(schedule, state="paused", scheduled_for=NOON - timedelta(hours=1), fired_at=None)
    ledger(schedule, state="fired", origin="manual")
    assert {row["state"] for row in rest.get(f"{URL}?{query}").json()["results"]} == expected
    assert {row["state"] for row in rest.get(f"/api/v1/schedules/{schedule.pk}/runs/?{query}").json()["results"]} == (
        expected
    )


def test_runs_of_one_schedule(rest, make_schedule):
    mine, other = make_schedule(), make_schedule()
    run = ledger(mine)
    ledger(other)
    assert [row["id"] for row in rest.get(f"{URL}?schedule={mine.pk}").json()["results"]] == [str(run.pk)]
    assert rest.get(f"{URL}?schedule=nonsense").status_code == 400


def test_the_runs_of_a_deleted_schedule_stay(rest, make_schedule):
    schedule = make_schedule()
    run = ledger(schedule)
    api.delete_schedule(schedule.pk)
    assert str(run.pk) in {row["id"] for row in rest.get(URL).json()["results"]}


def test_runs_cannot_be_written(rest, make_schedule):
    run = ledger(make_schedule())
    for request in (rest.post, rest.put, rest.patch, rest.delete):
        assert request(f"{URL}{run.pk}/", {}, format="json").status_code == 405


def test_a_list_costs_the_same_queries_however_many_rows(rest, make_schedule, django_assert_max_num_queries):
    for _ in range(10):
        api.run_schedule(make_schedule().pk)
    with django_assert_max_num_queries(5):
        assert len(rest.get(URL).json()["results"]) == 10


@pytest.mark.postgresql("it asks PostgreSQL for its plan")
def test_a_deep_page_is_read_from_the_index_in_order(make_schedule):
    after = beyond(RUN_KEYSET, (NOON.isoformat(), str(uuid.uuid4())))
    page = api.ScheduleRun.objects.filter(after, organization_id="default").order_by(*RUN_KEYSET)[:50]
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off; SET LOCAL enable_sort = off")
    plan = page.explain()
    assert "Index Scan" in plan
    assert "scheduled_for <=" in next(line for line in plan.splitlines() if "Index Cond" in line)
    assert "Sort Key" not in plan.replace("Merge Append\n  Sort Key", "")


def test_tasks_lists_the_registry(rest):
    listed = {task["name"]: task for task in rest.get("/api/v1/tasks/").json()["results"]}
    assert {"echo", "noop", "pipelines.run", "pipelines.load_csv", "demo.count_words"} <= set(listed)
    assert listed["echo"]["signature"].startswith("(*args")
    assert listed["echo"]["doc"] == "Return what it was given."
    assert listed["demo.count_words"]["source"] == "celery"
    assert rest.get("/api/v1/tasks/pipelines.run/").json() == listed["pipelines.run"]
    assert rest.get("/api/v1/tasks/os.system/").status_code == 404


def test_a_message_that_does_not_exist_is_not_found(rest):
    assert rest.get(f"/api/v1/messages/{uuid.uuid4()}/").status_code == 404
    assert rest.get("/api/v1/messages/nonsense/").status_code == 404
