"""A Celery message and the row that it is, in both directions. Celery itself makes and reads the messages here."""

from __future__ import annotations

import base64
import json
import pickle
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from celery import Celery
from celery.app.task import Context
from kombu import serialization

from pg_queue.celery.envelope import (
    RAW_TASK,
    celery_priority,
    is_raw,
    read_envelope,
    read_payload,
    row_priority,
    with_fresh_id,
    write_payload,
)
from pg_queue.domain import Message, MessageState, NewMessage
from pg_queue.errors import InvalidMessage

app = Celery("envelopes", broker="memory://", set_as_current=False)

SOME_ID = uuid.UUID("86090f54-cfe7-4e24-abc6-868a9ba34c1d")


@app.task(name="envelopes.add")
def add(x: int, y: int = 0) -> int:
    return x + y


def published(*args: Any, serializer: str = "json", **options: Any) -> dict[str, Any]:
    """What kombu's producer hands to a transport for `add.apply_async`."""
    task_id = options.pop("task_id", str(uuid.uuid4()))
    kwargs = options.pop("kwargs", {})
    reply_to = options.pop("reply_to", None)
    custom = options.pop("headers", {})
    message = app.amqp.as_task_v2(task_id, "envelopes.add", args, kwargs, reply_to=reply_to, **options)
    content_type, content_encoding, body = serialization.dumps(message.body, serializer=serializer)
    return {
        "body": body,
        "content-type": content_type,
        "content-encoding": content_encoding,
        "headers": {**message.headers, **custom},
        "properties": {**message.properties, "delivery_mode": 2, "delivery_info": {"exchange": "", "routing_key": "q"}},
    }


def stored(new: NewMessage, **changes: Any) -> Message:
    """The message as a store gives it back: what PostgreSQL keeps is JSON."""
    fields: dict[str, Any] = {
        "id": new.id or uuid.uuid4(),
        "task": new.task,
        "args": list(new.args),
        "kwargs": dict(new.kwargs),
        "queue": new.queue,
        "priority": new.priority,
        "state": MessageState.RUNNING,
        "attempts": 1,
        "max_attempts": new.max_attempts or 3,
        "run_after": new.run_after or datetime.now(UTC),
        "enqueued_at": datetime.now(UTC),
        "started_at": None,
        "finished_at": None,
        "headers": json.loads(json.dumps(new.headers)),
        "organization_id": "",
    }
    return Message(**(fields | changes))


def test_a_task_message_is_an_ordinary_row() -> None:
    eta = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)
    task_id = str(uuid.uuid4())
    payload = published(2, kwargs={"y": 3}, task_id=task_id, eta=eta, expires=eta + timedelta(hours=1))

    row = write_payload(payload, queue="fast", priority=9)

    assert (str(row.id), row.task, row.args, row.kwargs) == (task_id, "envelopes.add", [2], {"y": 3})
    assert (row.queue, row.priority, row.run_after) == ("fast", 10, eta)
    assert row.headers["expires_at"] == "2030-01-02T04:04:05+00:00"


def test_a_plain_message_keeps_only_what_its_columns_do_not_say() -> None:
    row = write_payload(published(1), queue="q", priority=None)
    assert set(row.headers) == {"celery"}
    assert set(row.headers["celery"]) == {"headers"}
    assert set(row.headers["celery"]["headers"]) == {"argsrepr", "kwargsrepr", "origin"}


def test_what_was_published_is_what_is_delivered() -> None:
    callback = add.s(1)
    payload = published(
        1,
        kwargs={"y": {"deep": [None, 1.5, "ä"]}},
        group_id="g1",
        group_index=3,
        retries=2,
        chord=add.s(0),
        callbacks=[callback],
        chain=[add.s(9)],
        reply_to="replies",
        time_limit=10,
        soft_time_limit=5,
        root_id="root",
        parent_id="parent",
        shadow="shown",
        ignore_result=True,
        headers={"tenant": "acme"},
    )

    delivered = read_payload(stored(write_payload(payload, queue="q", priority=4)))

    assert json.loads(delivered["body"]) == json.loads(payload["body"])
    assert delivered["headers"] == payload["headers"]
    assert delivered["properties"]["correlation_id"] == payload["properties"]["correlation_id"]
    assert delivered["properties"]["reply_to"] == "replies"
    assert delivered["properties"]["delivery_info"] == {
        "exchange": "",
        "routing_key": "q",
        "priority": 4,
        "redelivered": False,
    }
    assert Context(delivered["headers"]).headers == {"tenant": "acme"}


def test_the_database_has_waited_for_the_eta_so_the_worker_need_not() -> None:
    payload = published(1, countdown=30, expires=60)
    delivered = read_payload(stored(write_payload(payload, queue="q", priority=None)))
    assert delivered["headers"]["eta"] is None
    expires = datetime.fromisoformat(delivered["headers"]["expires"])
    assert expires == datetime.fromisoformat(payload["headers"]["expires"])


def test_a_row_that_is_no_celery_message_reads_as_one() -> None:
    new = NewMessage(task="envelopes.add", args=[1], kwargs={"y": 2}, priority=10, headers={"run": "r1", "id": "no"})
    message = stored(new, attempts=2)

    envelope = read_envelope(message)
    delivered = read_payload(message)

    assert (envelope.args, envelope.kwargs) == ([1], {"y": 2})
    assert envelope.headers["id"] == envelope.headers["root_id"] == str(message.id)
    assert envelope.headers["task"] == "envelopes.add"
    assert envelope.headers["run"] == "r1"
    assert json.loads(delivered["body"])[2] == dict.fromkeys(["callbacks", "errbacks", "chain", "chord"])
    assert delivered["properties"]["delivery_info"]["priority"] == 9
    assert delivered["properties"]["delivery_info"]["redelivered"] is True
    assert set(delivered["headers"]) - {"run"} == set(published(1)["headers"])


@pytest.mark.parametrize("task_id", ["import-42", f"{SOME_ID}".upper(), f"{{{SOME_ID}}}"])
def test_an_id_that_is_no_plain_uuid_is_kept_beside_the_rows_own(task_id: str) -> None:
    row = write_payload(published(1, task_id=task_id), queue="q", priority=None)
    assert row.id is None
    message = stored(row)
    assert read_envelope(message).headers["id"] == task_id
    assert read_envelope(message).headers["root_id"] == task_id
    assert read_payload(message)["properties"]["correlation_id"] == task_id


def test_a_message_whose_id_is_in_use_keeps_it_under_another_rows_id() -> None:
    row = write_payload(published(1), queue="q", priority=None)
    moved = with_fresh_id(row)
    assert moved.id is None
    assert read_envelope(stored(moved)).headers["id"] == str(row.id)


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("NaN, which jsonb refuses", '[[NaN], {}, {"chain": null}]'),
        ("NUL, which PostgreSQL refuses", json.dumps([["a\x00b"], {}, {}])),
        ("half a surrogate pair", '[["\\ud800"], {}, {}]'),
        ("a body of protocol 1", '{"id": "x", "args": []}'),
        ("no JSON at all", "{"),
    ],
)
def test_what_jsonb_cannot_hold_travels_raw(name: str, body: str) -> None:
    payload = published(1) | {"body": body}
    row = write_payload(payload, queue="q", priority=0)
    assert (row.task, row.priority) == (RAW_TASK, 1)
    assert str(row.id) == payload["headers"]["id"]
    assert read_payload(stored(row))["body"] == body


def test_a_pickled_message_travels_raw_with_its_eta_and_expiry() -> None:
    eta = datetime.now(UTC) + timedelta(minutes=5)
    payload = published({1, 2}, serializer="pickle", eta=eta, expires=600)
    row = write_payload(payload, queue="q", priority=None)
    assert (row.task, row.run_after) == (RAW_TASK, eta)
    assert "expires_at" in row.headers
    message = stored(row)
    assert is_raw(message)
    delivered = read_payload(message)
    assert delivered["properties"]["body_encoding"] == "base64"
    assert delivered["content-type"] == "application/x-python-serialize"
    assert delivered["headers"]["eta"] is None
    assert delivered["headers"]["id"] == payload["headers"]["id"]
    assert pickle.loads(base64.b64decode(delivered["body"]))[0] == ({1, 2},)


def test_a_raw_row_has_no_envelope() -> None:
    message = stored(write_payload(published(1, serializer="pickle"), queue="q", priority=None))
    with pytest.raises(ValueError, match="expected a task message, got: a raw payload"):
        read_envelope(message)


@pytest.mark.parametrize(
    ("changes", "queue", "field"),
    [
        ({"eta": "soon"}, "q", "eta"),
        ({"eta": "9999-12-31T23:00:00+00:00"}, "q", "eta"),
        ({"expires": "later"}, "q", "expires"),
        ({"task": "t" * 256}, "q", "task"),
        ({}, "q" * 129, "queue"),
        ({}, "", "queue"),
    ],
)
def test_what_no_row_can_hold_is_refused_with_the_fields_name(changes: dict[str, Any], queue: str, field: str) -> None:
    payload = published(1)
    payload["headers"].update(changes)
    with pytest.raises(InvalidMessage) as refused:
        write_payload(payload, queue=queue, priority=None)
    assert refused.value.field == field


def test_priorities_are_those_of_rabbitmq() -> None:
    assert [row_priority(one) for one in (None, 0, 4, 9, 10, 255, -3)] == [5, 1, 5, 10, 10, 10, 1]
    assert [celery_priority(row_priority(one)) for one in range(10)] == list(range(10))


def test_headers_that_someone_wrote_by_hand_stop_nobody() -> None:
    for headers in ({"celery": 1}, {"celery": {"headers": [], "embed": None, "properties": "x"}}):
        message = stored(NewMessage(task="envelopes.add", headers=headers))
        assert read_envelope(message).headers["id"] == str(message.id)
    raw = stored(NewMessage(task=RAW_TASK, headers={"celery": {"raw": 5}}))
    assert read_payload(raw)["body"] == ""
