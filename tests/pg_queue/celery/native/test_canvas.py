"""Celery's canvas end to end: published, executed and answered by our store, transport, backend and workers alone."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from celery import Celery, chain, chord, group, signature
from celery.exceptions import ChordError, MaxRetriesExceededError, TaskRevokedError
from celery.result import AsyncResult
from django.db import transaction
from kombu import pools

from pg_queue.celery.execution import lost
from pg_queue.domain import MessageState, Settlement
from pg_queue.storage import store
from pg_queue.worker.execution import outcome_of
from pg_queue.worker.followers import settle
from tests.pg_queue.celery.native.conftest import noted
from tests.pg_queue.celery.native.tasks import seen

pytestmark = [
    pytest.mark.django_db(transaction=True, available_apps=["pg_queue"]),
    pytest.mark.postgresql("Celery's transport and result backend"),
]


@pytest.fixture(autouse=True)
def downbeat(app: Celery) -> Iterator[None]:
    app.conf.update(broker_url="downbeat://", result_backend="downbeat://", result_extended=True)
    yield
    app.backend.result_consumer.stop()
    app.backend.sessions.close()
    pools.reset()


def task(app: Celery, name: str) -> Any:
    return app.tasks[f"native.{name}"]


def work(*, most: int = 100) -> int:
    """Execute and settle what is due, as a worker does, until nothing is; how many messages that were."""
    count = 0
    while claims := store().claim(queues=["celery", "slow"], limit=10, lease=timedelta(seconds=60), worker="host:1:2"):
        for claim in claims:
            outcome = outcome_of(claim.message)
            settle(store(), [Settlement(message_id=claim.message.id, token=claim.token, outcome=outcome)])
            count += 1
            assert count < most, "it goes on for ever"
    return count


def test_what_was_sent_is_executed_and_answered(app: Celery) -> None:
    result = task(app, "add").delay(1, 2)
    assert store().get([uuid.UUID(result.id)])[uuid.UUID(result.id)].state is MessageState.WAITING
    assert work() == 1
    assert result.get(timeout=5) == 3
    assert store().get([uuid.UUID(result.id)])[uuid.UUID(result.id)].result == 3


def test_what_was_sent_in_a_transaction_that_is_rolled_back_was_never_sent(app: Celery) -> None:
    with transaction.atomic():
        task(app, "add").delay(1, 2)
        transaction.set_rollback(True)
    assert work() == 0


def test_options_of_a_call_reach_the_message_and_the_task(app: Celery) -> None:
    later = datetime.now(UTC) + timedelta(hours=1)
    task_id = str(uuid.uuid4())
    task(app, "sees").apply_async(
        [1], {"a": 2}, task_id=task_id, queue="slow", priority=9, headers={"tenant": "acme"}, expires=3600
    )
    waiting = task(app, "add").apply_async([1, 2], eta=later)
    message = store().get([uuid.UUID(task_id)])[uuid.UUID(task_id)]
    assert (message.queue, message.priority) == ("slow", 10)
    assert work() == 1, "the other one waits in the database"
    assert store().get([uuid.UUID(waiting.id)])[uuid.UUID(waiting.id)].run_after == later
    found = AsyncResult(task_id).get(timeout=5)
    assert (found["args"], found["kwargs"], found["queue"]) == ([1], {"a": 2}, "slow")
    assert found["headers"] == {"tenant": "acme"}


def test_a_retry_goes_on_under_its_id_with_one_retry_more(app: Celery) -> None:
    result = task(app, "retries").delay(2)
    assert work() == 3
    assert result.get(timeout=5) == 2
    assert seen == [("ran", 0), ("ran", 1), ("ran", 2)]


def test_a_waiting_retry_is_seen_under_its_id(app: Celery) -> None:
    result = task(app, "retries").delay(1, countdown=600)
    assert work() == 1
    message = store().get([uuid.UUID(result.id)])[uuid.UUID(result.id)]
    assert (message.state, message.attempts) == (MessageState.WAITING, 0)
    assert message.run_after > datetime.now(UTC) + timedelta(seconds=590)
    assert result.state == "RETRY"


def test_max_retries_end_in_the_tasks_own_error(app: Celery) -> None:
    result = task(app, "retries").delay(9)
    assert work() == 3
    with pytest.raises(KeyError):
        result.get(timeout=5)
    plain = task(app, "retries_at").apply_async(["2026-01-01T00:00:00+00:00"])
    assert work() == 4
    with pytest.raises(MaxRetriesExceededError):
        plain.get(timeout=5)


def test_a_retry_may_change_what_it_is_called_with(app: Celery) -> None:
    result = task(app, "retries").delay(1, kwargs={"queue": "slow"}, args=[0])
    assert work() == 2
    assert result.get(timeout=5) == 1
    assert store().get([uuid.UUID(result.id)])[uuid.UUID(result.id)].queue == "celery"


def test_a_retry_survives_the_rollback_of_the_task_that_asked_for_it(app: Celery) -> None:
    result = task(app, "retries_in_transaction").delay()
    assert work() == 2
    assert result.get(timeout=5) == "second"


def test_a_chain_passes_values_on(app: Celery) -> None:
    add = task(app, "add")
    result = chain(add.s(1, 2), add.s(3), add.s(4)).delay()
    assert work() == 3
    assert result.get(timeout=5) == 10
    assert result.parent.parent.get(timeout=5) == 3


def test_a_failed_chain_ends_there_and_says_so_at_its_end(app: Celery) -> None:
    result = chain(task(app, "fails").s(), task(app, "add").s(1)).delay()
    assert work() == 1
    with pytest.raises(ValueError, match="no"):
        result.get(timeout=5)


def test_callbacks_and_errbacks_follow(app: Celery) -> None:
    note = task(app, "note")
    task(app, "add").apply_async([1, 2], link=[note.s("first"), note.s("second")])
    failing = task(app, "fails").apply_async(link_error=task(app, "note_error").s())
    assert work() == 5
    assert {("first", 3), ("second", 3), ("error", failing.id)} <= set(seen)


def test_a_group_gathers(app: Celery) -> None:
    result = group(task(app, "add").s(i, i) for i in range(5)).delay()
    assert work() == 5
    assert result.get(timeout=5) == [0, 2, 4, 6, 8]


def test_a_chord_calls_back_once_with_all_values(app: Celery) -> None:
    result = chord([task(app, "add").s(i, i) for i in range(4)], task(app, "total").s()).delay()
    assert work() == 5
    assert result.get(timeout=5) == 12


def test_a_failed_chord_fails_its_callback(app: Celery) -> None:
    result = chord([task(app, "add").s(1, 1), task(app, "fails").s()], task(app, "total").s()).delay()
    work()
    with pytest.raises(ChordError, match="ValueError"):
        AsyncResult(result.id).get(timeout=5)


def test_canvas_inside_canvas(app: Celery) -> None:
    add, total = task(app, "add"), task(app, "total")
    result = chain(
        add.s(1, 1), group(add.s(1), chain(add.s(2), add.s(3))), total.s(), group(add.s(1), add.s(2)), total.s()
    ).delay()
    work()
    assert result.get(timeout=5) == 3 + 7 + 1 + 3 + 7 + 2


def test_chunks_map_and_starmap(app: Celery) -> None:
    add = task(app, "add")
    chunks = add.chunks([(1, 1), (2, 2), (3, 3)], 2).group().delay()
    starred = add.starmap([(1, 2), (3, 4)]).delay()
    mapped = task(app, "total").map([[1, 2], [3, 4]]).delay()
    work()
    assert chunks.get(timeout=5) == [[2, 4], [6]]
    assert (starred.get(timeout=5), mapped.get(timeout=5)) == ([3, 7], [3, 7])


def test_a_task_is_replaced_and_answers_under_its_id(app: Celery) -> None:
    result = task(app, "replaces").delay(4)
    assert work() == 2
    assert result.get(timeout=5) == 5
    in_chain = chain(task(app, "replaces").s(4), task(app, "add").s(10)).delay()
    work()
    assert in_chain.get(timeout=5) == 15


def test_a_task_is_replaced_by_a_group(app: Celery) -> None:
    result = task(app, "replaced_by_group").delay()
    work()
    assert result.get(timeout=5) == [2, 4]


def test_states_are_seen_while_it_runs(app: Celery) -> None:
    result = task(app, "reports").delay()
    work()
    assert result.get(timeout=5) == ["STARTED", "PROGRESS", {"done": 1}]


def test_what_expires_is_revoked(app: Celery) -> None:
    result = task(app, "add").apply_async([1, 2], expires=datetime.now(UTC) - timedelta(seconds=1))
    assert work() == 1
    assert result.state == "REVOKED"
    assert store().get([uuid.UUID(result.id)])[uuid.UUID(result.id)].error.type == "message.expired"  # type: ignore[union-attr]


def test_a_task_sends_others_in_its_own_transaction(app: Celery) -> None:
    result = task(app, "sends").delay()
    assert work() == 2
    assert AsyncResult(result.get(timeout=5)).get(timeout=5) == 3


def test_a_crash_between_result_and_settlement_loses_nothing_that_follows(app: Celery) -> None:
    """The execution is over and its result stored; the worker dies before it settles."""
    result = chain(task(app, "add").s(1, 2), task(app, "add").s(3)).delay()
    (claim,) = store().claim(queues=["celery"], limit=1, lease=timedelta(0), worker="host:1:2")
    outcome_of(claim.message)
    assert store().expire_claims(limit=10) == 1
    assert work() == 2
    assert result.get(timeout=5) == 6
    assert result.parent.get(timeout=5) == 3


def test_a_crash_between_a_chords_last_part_and_its_settlement_calls_back_once(app: Celery) -> None:
    result = chord([task(app, "add").s(1, 1)], task(app, "note").s("body")).delay()
    (claim,) = store().claim(queues=["celery"], limit=1, lease=timedelta(0), worker="host:1:2")
    outcome_of(claim.message)
    store().expire_claims(limit=10)
    work()
    assert seen == [("body", [2])]
    assert result.ready()


def test_a_lost_worker_is_told_to_errbacks_and_chord(app: Celery) -> None:
    result = chord([task(app, "add").s(1, 1)], task(app, "total").s()).delay()
    failing = task(app, "add").apply_async([1, 1], link_error=task(app, "note_error").s())
    for _ in range(2):
        store().claim(queues=["celery"], limit=1, lease=timedelta(0), worker="host:1:2")
    assert store().expire_claims(limit=10) == 2
    work()
    assert seen == [("error", failing.id)]
    with pytest.raises(ChordError, match="WorkerLostError"):
        AsyncResult(result.id).get(timeout=5)


def test_an_unknown_tasks_result_says_so(app: Celery, settings: Any) -> None:
    settings.PG_QUEUE = {"MAX_ATTEMPTS": 1}
    result = app.send_task("native.none")
    assert work() == 1
    with pytest.raises(Exception, match=r"native\.none"):
        result.get(timeout=5)


def test_a_signature_by_name_alone_is_sent_too(app: Celery) -> None:
    result = chain(signature("native.add", (1, 2), app=app), signature("native.add", (1,), app=app)).delay()
    work()
    assert result.get(timeout=5) == 4


def test_what_waits_is_revoked_where_it_waits(app: Celery) -> None:
    first, second, third = (task(app, "add").delay(1, 2) for _ in range(3))
    with noted("task_revoked") as signals:
        first.revoke()
        app.control.revoke([second.id, "no-such-task"])
    assert work() == 1
    assert (first.state, second.state, third.state) == ("REVOKED", "REVOKED", "SUCCESS")
    with pytest.raises(TaskRevokedError):
        first.get(timeout=5)
    message = store().get([uuid.UUID(first.id)])[uuid.UUID(first.id)]
    assert message.state is MessageState.CANCELLED
    assert signals == ["task_revoked", "task_revoked"]


def test_what_runs_is_revoked_only_where_it_is_to_be_terminated(app: Celery) -> None:
    result = task(app, "add").delay(1, 2)
    (claim,) = store().claim(queues=["celery"], limit=1, lease=timedelta(seconds=60), worker="host:1:2")
    result.revoke()
    assert store().renew([(claim.message.id, claim.token)], lease=timedelta(seconds=60)) == {claim.token}
    result.revoke(terminate=True)
    assert store().renew([(claim.message.id, claim.token)], lease=timedelta(seconds=60)) == set()
    assert result.state == "REVOKED"


def test_a_revoked_member_fails_its_chord(app: Celery) -> None:
    header = [task(app, "add").s(1, 1).set(task_id=str(uuid.uuid4())), task(app, "add").s(2, 2)]
    result = chord(header, task(app, "total").s()).delay()
    app.control.revoke(header[0].options["task_id"])
    work()
    with pytest.raises(ChordError):
        AsyncResult(result.id).get(timeout=5)


def test_a_transaction_that_a_task_leaves_open_is_its_failure_also_to_celery(app: Celery) -> None:
    result = chain(task(app, "leaves_open").s(), task(app, "note").s("next")).delay()
    assert work() == 1
    assert result.parent.state == "FAILURE"
    assert seen == []


def test_what_celerys_transport_had_fetched_is_known_by_its_failure(app: Celery) -> None:
    result = task(app, "add").delay(1, 2)
    with app.connection_for_read() as connection:
        fetched = connection.SimpleQueue("celery").get(timeout=10)
        worker = store().get([uuid.UUID(result.id)])[uuid.UUID(result.id)].worker
        fetched.requeue()
    assert str(worker).endswith(":celery")
    assert lost._ONLY_FETCHED.startswith(":celery")
    assert work() == 1
    assert result.get(timeout=5) == 3
