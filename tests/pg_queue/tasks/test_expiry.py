"""A message that is not begun in time is not begun at all."""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection

from pg_queue import api
from pg_queue.domain import Death, Retry
from pg_queue.worker.execution import outcome_of
from tests.pg_queue.tasks.working import running, stored, work

pytestmark = pytest.mark.django_db
NOW = datetime(2030, 1, 1, 12, tzinfo=UTC)
calls: list[int] = []


def note(value: int = 0) -> None:
    """Note that it was begun."""
    calls.append(value)


@pytest.fixture(autouse=True)
def _task() -> None:
    api.task("test.fresh", expires=timedelta(minutes=5))(note)
    api.task("test.lasting")(note)
    calls.clear()


def expiry(message_id: Any) -> datetime:
    return datetime.fromisoformat(stored(message_id).headers["expires_at"])


def about(span: timedelta) -> Any:
    return pytest.approx((datetime.now(UTC) + span).timestamp(), abs=60)


@pytest.mark.parametrize(
    ("expires", "is_begun"), [(NOW, True), (NOW - timedelta(microseconds=1), False), (NOW + timedelta(days=1), True)]
)
def test_the_stores_clock_decides_at_the_claim(expires: datetime, is_begun: bool) -> None:
    outcome = outcome_of(running("test.lasting", headers={"expires_at": expires.isoformat()}, started_at=NOW))
    assert calls == ([0] if is_begun else [])
    if not is_begun:
        assert isinstance(outcome, Death)
        assert outcome.failure.type == "message.expired"
        assert outcome.failure.message == (
            "it was to begin until 2030-01-01T11:59:59.999999+00:00, and was claimed at 2030-01-01T12:00:00+00:00"
        )


@pytest.mark.parametrize("text", ["soon", "2030-01-01T12:00:00", 5, None])
def test_an_expiry_that_nobody_can_read_is_refused_and_never_run(text: Any) -> None:
    with pytest.raises(
        api.InvalidMessage, match=r"^headers: expected an ISO 8601 instant with an offset as 'expires_at'"
    ):
        api.enqueue("test.lasting", headers={"expires_at": text})
    outcome = outcome_of(running("test.lasting", headers={"expires_at": text}))
    assert isinstance(outcome, Death)
    assert outcome.failure.type == "message.unreadable"
    assert calls == []


@pytest.mark.django_db(transaction=True, available_apps=["pg_queue"])
def test_what_has_expired_is_a_dead_letter_and_what_follows_from_a_failure_follows() -> None:
    api.task("test.after")(note)
    late = api.enqueue(
        "test.lasting",
        expires=datetime.now(UTC) - timedelta(seconds=5),
        on_failure=[api.NewMessage(task="test.after", args=[7], queue="after")],
    )
    work()
    message = stored(late)
    assert message.state is api.MessageState.FAILED
    assert message.error is not None
    assert message.error.type == "message.expired"
    work("after")
    assert calls == [7]


def test_a_task_that_is_retried_beyond_its_expiry_is_not_begun_again() -> None:
    def fails() -> None:
        calls.append(1)
        raise ValueError("no")

    api.task("test.fails")(fails)
    headers = {"expires_at": NOW.isoformat()}
    first = running("test.fails", headers=headers, started_at=NOW - timedelta(seconds=1))
    assert isinstance(outcome_of(first), Retry)
    second = running("test.fails", headers=headers, attempts=2, started_at=NOW + timedelta(seconds=1))
    assert isinstance(outcome_of(second), Death)
    assert calls == [1]


def test_a_span_counts_from_when_the_message_is_due() -> None:
    due = datetime.now(UTC) + timedelta(hours=1)
    assert expiry(api.enqueue("test.fresh")).timestamp() == about(timedelta(minutes=5))
    assert expiry(api.enqueue("test.fresh", run_after=due)) == due + timedelta(minutes=5)
    assert expiry(api.enqueue("test.fresh", run_after=due, expires=30)) == due + timedelta(seconds=30)
    assert expiry(api.enqueue("test.lasting", expires=timedelta(hours=2))).timestamp() == about(timedelta(hours=2))
    assert expiry(api.enqueue("test.fresh", expires=due, headers={"trace": 1})) == due
    assert "expires_at" not in stored(api.enqueue("test.lasting")).headers


def test_the_handle_says_it_too() -> None:
    lasting = api.task("test.lasting")(note)
    message = stored(lasting.options(expires=60, delay=3600, headers={"trace": 1}).enqueue(1))
    assert message.headers["trace"] == 1
    assert datetime.fromisoformat(message.headers["expires_at"]).timestamp() == about(timedelta(seconds=3660))
    message_id = api.dispatch(api.NewMessage(task="test.fresh"))
    assert expiry(message_id).timestamp() == about(timedelta(minutes=5))


@pytest.mark.parametrize("expires", [0, -1, True, "soon", float("nan"), timedelta(days=9999), datetime(2030, 1, 1)])
def test_a_senseless_expiry_is_refused_by_name(expires: Any) -> None:
    with pytest.raises(api.InvalidMessage, match=r"^expires: expected an aware datetime"):
        api.enqueue("test.lasting", expires=expires)
    if not isinstance(expires, datetime):
        with pytest.raises(ValueError, match=r"task 'test.lasting': expires: expected a timedelta or a number of sec"):
            api.task("test.lasting", expires=expires)(note)


@pytest.mark.postgresql("the INSERT for PostgreSQL; SQLite's is below")
def test_a_statement_of_the_callers_own_stores_it_by_the_databases_clock() -> None:
    source = f"""
        SELECT {api.NEW_ID_SQL} AS id, 'q' AS queue, 5 AS priority, task, '[]'::jsonb AS args,
               '{{}}'::jsonb AS kwargs, headers::jsonb, '' AS organization_id, NULL AS report_to,
               NULL::smallint AS max_attempts, run_after::timestamptz
        FROM (VALUES ('test.fresh', '{{"a": 1}}', NULL),
                     ('test.fresh', '{{"expires_at": "2040-01-01T00:00:00Z"}}', NULL),
                     ('test.fresh', '{{"a": 3}}', '2029-01-01 00:00Z'), ('noop', '{{"a": 4}}', NULL)
             ) AS given (task, headers, run_after)
    """
    with connection.cursor() as cursor:
        cursor.execute(f"WITH due AS MATERIALIZED ({source}), sent AS ({api.enqueue_sql('due')}) SELECT 1", [])
        cursor.execute(
            "SELECT headers ->> 'expires_at', now() + interval '5 minutes' FROM pg_queue_message ORDER BY sequence"
        )
        (first, then), (given, _), (later, _), (never, _) = cursor.fetchall()
    assert datetime.fromisoformat(first) == then
    assert (given, later, never) == ("2040-01-01T00:00:00Z", "2029-01-01T00:05:00.000000+00:00", None)


def test_so_does_the_statement_for_sqlite() -> None:
    columns = "queue, priority, args, kwargs, organization_id, report_to, max_attempts"
    values = ", ".join(f"NULL AS {name}" for name in columns.split(", "))
    with sqlite3.connect(":memory:") as session:
        session.execute(
            f"CREATE TABLE pg_queue_message (id, namespace, task, {columns}, headers, run_after, enqueued_at)"
        )
        start = f"""
            WITH given (task, headers, run_after) AS (VALUES
                ('test.fresh', '{{"a":1}}', NULL), ('test.fresh', '{{"expires_at":"2040-01-01T00:00:00Z"}}', NULL),
                ('test.fresh', '{{}}', '2031-01-01 00:00:00.250000'), ('noop', '{{"a":4}}', NULL)),
            due AS (SELECT task AS id, *, {values} FROM given)
        """
        session.execute(f"{start} {api.enqueue_sql('due', dialect='sqlite')}", {"now": "2030-01-01 00:00:00.500000"})
        query = "SELECT json_extract(headers, '$.expires_at'), json_extract(headers, '$.a') FROM pg_queue_message"
        found = session.execute(query).fetchall()
    assert found == [
        ("2030-01-01T00:05:00.500+00:00", 1),
        ("2040-01-01T00:00:00Z", None),
        ("2031-01-01T00:05:00.250+00:00", None),
        (None, 4),
    ]
