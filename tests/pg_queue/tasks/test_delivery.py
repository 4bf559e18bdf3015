"""At most once: whatever happens to its first execution, there is no second one."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import connection

from pg_queue import api
from pg_queue.domain import Death
from pg_queue.worker.execution import outcome_of
from tests.pg_queue.tasks.working import claimed, running, stored, work
from tests.pg_queue.worker.conftest import ProcessQueue, begun, is_gone, queue, until

__all__ = ["begun", "queue"]  # fixtures
TRANSACTION = pytest.mark.django_db(transaction=True, available_apps=["pg_queue"])
calls: list[str] = []


def once(what: str = "") -> None:
    """Fail as it is told."""
    calls.append(what)
    if what == "raise":
        raise ValueError("no")
    if what == "retry":
        raise api.RetryLater("not now") from ValueError("busy")


@pytest.fixture(autouse=True)
def _task() -> None:
    api.task("test.once", delivery="at_most_once")(once)
    calls.clear()


@TRANSACTION
def test_one_that_raised_is_dead_after_its_only_attempt() -> None:
    message_id = api.enqueue("test.once", ["raise"])
    work()
    message = stored(message_id)
    assert (message.state, message.attempts, message.max_attempts) == (api.MessageState.FAILED, 1, 1)
    assert message.error is not None
    assert message.error.type == "ValueError"
    assert work() == []
    assert calls == ["raise"]


@TRANSACTION
def test_one_whose_lease_ran_out_is_dead_and_not_begun_by_another() -> None:
    message_id = api.enqueue("test.once")
    (claim,) = api.store().claim(queues=["default"], limit=1, lease=timedelta(), worker="frozen:1:1")
    assert api.store().expire_claims(limit=10) == 1
    message = stored(message_id)
    assert message.error is not None
    assert (message.state, message.error.type) == (api.MessageState.FAILED, "worker.vanished")
    assert claimed() == []
    assert api.store().renew([(claim.message.id, claim.token)], lease=timedelta(seconds=9)) == set()


@TRANSACTION
def test_one_that_was_given_back_before_it_began_may_begin() -> None:
    message_id = api.enqueue("test.once")
    (claim,) = claimed()
    api.store().release([(claim.message.id, claim.token)])
    work()
    assert calls == [""]
    assert stored(message_id).state is api.MessageState.SUCCEEDED


@pytest.mark.django_db
def test_asking_for_a_retry_is_an_error_that_says_so() -> None:
    outcome = outcome_of(running("test.once", "retry"))
    assert isinstance(outcome, Death)
    assert outcome.failure.type == "task.retry_refused"
    assert outcome.failure.message == (
        "expected no RetryLater of 'test.once', which is delivered at_most_once, got: busy"
    )


@pytest.mark.django_db
def test_a_message_that_was_stored_with_more_attempts_is_not_begun_a_second_time() -> None:
    outcome = outcome_of(running("test.once", attempts=2, max_attempts=3))
    assert isinstance(outcome, Death)
    assert outcome.failure.type == "task.begun_before"
    assert calls == []
    assert isinstance(outcome_of(running("test.once", "raise", max_attempts=3)), Death)


@pytest.mark.django_db
def test_more_attempts_for_one_message_are_refused() -> None:
    with pytest.raises(api.InvalidMessage, match=r"^max_attempts: expected 1, or none, for the task 'test.once'"):
        api.enqueue("test.once", max_attempts=2)
    with pytest.raises(api.InvalidMessage, match=r"^on_success\[0\].max_attempts: expected 1"):
        api.enqueue("noop", on_success=[api.NewMessage(task="test.once", max_attempts=2)])
    assert stored(api.enqueue("test.once", max_attempts=1)).max_attempts == 1


@pytest.mark.django_db
@pytest.mark.postgresql("the INSERT for PostgreSQL; SQLite's is below")
@pytest.mark.parametrize("given", ["NULL", "5"])
def test_a_statement_of_the_callers_own_stores_one_attempt(given: str) -> None:
    source = f"""
        SELECT {api.NEW_ID_SQL} AS id, 'q' AS queue, 5 AS priority, task, '[]'::jsonb AS args,
               '{{}}'::jsonb AS kwargs, '{{}}'::jsonb AS headers, '' AS organization_id, NULL AS report_to,
               {given}::smallint AS max_attempts, NULL::timestamptz AS run_after
        FROM unnest(ARRAY['test.once', 'noop']) AS task
    """
    with connection.cursor() as cursor:
        cursor.execute(f"WITH due AS MATERIALIZED ({source}), sent AS ({api.enqueue_sql('due')}) SELECT 1", [])
    found = {claim.message.task: claim.message.max_attempts for claim in claimed("q")}
    assert found == {"test.once": 1, "noop": 3 if given == "NULL" else 5}


@pytest.mark.parametrize("given", ["NULL", "5"])
def test_so_does_the_statement_for_sqlite(given: str) -> None:
    columns = "queue, priority, args, kwargs, headers, organization_id, report_to, run_after"
    values = ", ".join(f"'' AS {name}" for name in columns.split(", "))
    with sqlite3.connect(":memory:") as session:
        session.execute(f"CREATE TABLE pg_queue_message (id, namespace, task, {columns}, max_attempts, enqueued_at)")
        due = f"SELECT task AS id, task, {values}, {given} AS max_attempts FROM given"
        start = f"WITH given (task) AS (VALUES ('test.once'), ('noop')), due AS ({due})"
        session.execute(f"{start} {api.enqueue_sql('due', dialect='sqlite')}", {"now": "2030-01-01 00:00:00"})
        found = dict(session.execute("SELECT task, max_attempts FROM pg_queue_message").fetchall())
    assert found == {"test.once": 1, "noop": 3 if given == "NULL" else 5}


@pytest.mark.processes
def test_neither_a_killed_worker_nor_an_older_enqueue_makes_it_begin_twice(
    queue: ProcessQueue, tmp_path: Path, begun: Callable[[int], int]
) -> None:
    """The first message was stored as it is today; the other one by a process that knew of no policy."""
    older = tmp_path / "older"
    older.mkdir()
    ids = [
        queue.add("test.hold_once", str(tmp_path), max_attempts=1),
        queue.add("test.hold_once", str(older), max_attempts=3),
    ]
    first = queue.worker("--concurrency", "2")
    children = [begun(1), int(until(lambda: (older / "begun-1").exists() and (older / "begun-1").read_text()))]
    first.kill()
    until(lambda: all(is_gone(child) for child in children), what="the orphaned children to end")
    queue.reaper()
    queue.worker("--concurrency", "1", LEASE_SECONDS=60, RENEW_SECONDS=10)
    errors: list[Any] = [queue.outcome(message_id).error for message_id in ids]
    assert [error.type for error in errors] == ["worker.vanished", "task.begun_before"]
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("begun-*")) == [
        "begun-1",
        "older/begun-1",
    ]
