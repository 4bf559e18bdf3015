"""What the PostgreSQL store does with rows that no `enqueue` has written, and with large batches."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Any

import pytest
from django.db import IntegrityError, connection, transaction

from pg_queue import api
from pg_queue.domain import MessageState, NewMessage
from pg_queue.models import DeadLetter
from pg_queue.storage import store
from pg_queue.storage.postgres import PostgresStore
from pg_queue.storage.postgres.enqueueing import ENQUEUE_BYTES

pytestmark = pytest.mark.django_db


def write_by_hand(**columns: Any) -> uuid.UUID:
    """A row by plain SQL; its id."""
    row = {
        "task": "noop",
        "args": "[]",
        "kwargs": "{}",
        "headers": "{}",
        "max_attempts": 3,
        "run_after": "2020-01-01",
        **columns,
    }
    names, marks = ", ".join(row), ", ".join(["%s"] * len(row))
    with connection.cursor() as cursor:
        cursor.execute(f"INSERT INTO pg_queue_message ({names}) VALUES ({marks}) RETURNING id", list(row.values()))
        found: uuid.UUID = cursor.fetchone()[0]
    return found


def claimed() -> list[uuid.UUID]:
    found = api.store().claim(queues=["default"], limit=10, lease=timedelta(seconds=60), worker="w")
    return [claim.message.id for claim in found]


@pytest.mark.parametrize(
    ("columns", "constraint"),
    [
        ({"priority": 0}, "pg_queue_message_priority_range"),
        ({"priority": 11}, "pg_queue_message_priority_range"),
        ({"run_after": "-infinity"}, "pg_queue_message_instants_readable"),
        ({"run_after": "infinity"}, "pg_queue_message_instants_readable"),
        ({"enqueued_at": "infinity"}, "pg_queue_message_instants_readable"),
        ({"attempts": 3}, "pg_queue_message_attempts_range"),
        ({"attempts": 32767, "max_attempts": 32767}, "pg_queue_message_attempts_range"),
        ({"claim_token": str(uuid.uuid4())}, "pg_queue_message_claim_whole"),
    ],
)
def test_a_row_that_no_worker_could_take_is_refused_where_it_is_written(
    columns: dict[str, Any], constraint: str
) -> None:
    with pytest.raises(IntegrityError, match=constraint), transaction.atomic():
        write_by_hand(**columns)


@pytest.mark.parametrize("args", [f"[{'9' * 5000}]", "[" * 1500 + "]" * 1500])
def test_a_row_that_cannot_be_read_is_buried_and_blocks_no_other(args: str) -> None:
    bad, good = write_by_hand(args=args), write_by_hand(args="[1]")
    assert claimed() == [good]
    assert claimed() == []
    message = api.get_messages([bad])[bad]
    assert message.state is MessageState.FAILED
    assert message.error is not None
    assert message.error.type == "message.unreadable"
    assert DeadLetter.objects.filter(pk=bad).exists()


def test_large_messages_are_stored_in_batches_that_the_server_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[int] = []
    store = PostgresStore(api.queue_settings(), api.queue_settings().places["default"])
    fetch = store._connection.fetch

    def spy(statement: str, parameters: Any) -> Any:
        sent.append(len(parameters.get("messages", "")))
        return fetch(statement, parameters)

    monkeypatch.setattr(store._connection, "fetch", spy)
    ids = store.enqueue([NewMessage(task="noop", args=["x" * 200_000]) for _ in range(200)])
    monkeypatch.undo()
    assert max(sent) <= ENQUEUE_BYTES
    assert len(sent) > 1
    assert claimed() == ids[:10]


def test_a_worker_whose_row_was_forgotten_is_told_so() -> None:
    store().workers.announce("h:1:1", host="h", process_id=1, queues=["default"], concurrency=1)
    assert store().workers.beat("h:1:1", running=0, finished=0, failed=0)
    assert not store().workers.beat("h:2:2", running=0, finished=0, failed=0)
