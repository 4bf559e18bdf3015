"""What may be enqueued, and what is refused where it is written."""

from __future__ import annotations

import math
import uuid
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection

from pg_queue import api
from pg_queue.models import Message
from pg_queue.storage import store
from pg_queue.validation import checked_message

pytestmark = pytest.mark.django_db

BEYOND = datetime(9999, 12, 31, 23, tzinfo=timezone(-timedelta(hours=5)))
"""In UTC that is the year 10000, which Python cannot read back."""


class Hostile(dict[str, Any]):
    """A value whose own methods raise what they like."""

    def __init__(self) -> None:
        super().__init__(a=1)

    def __repr__(self) -> str:
        raise LookupError("no repr")

    def items(self) -> Any:
        """Raise."""
        raise LookupError("no items")


def nested(depth: int) -> list[Any]:
    """Lists in lists, so many deep."""
    value: list[Any] = []
    for _ in range(depth - 1):
        value = [value]
    return value


PLAIN = api.NewMessage(task="test.plain")
BAD = api.NewMessage(task="test.plain", args=[math.nan])
LARGE = api.NewMessage(task="test.plain", args=["x" * 200_000])


def chained(levels: int, last: api.NewMessage = PLAIN) -> api.NewMessage:
    """A message whose continuation has a continuation, and so on."""
    for _ in range(levels):
        last = api.NewMessage(task="test.plain", on_success=[last])
    return last


@pytest.fixture(autouse=True)
def _tasks() -> None:
    api.task("test.known", max_attempts=9)(known)
    api.task("test.plain")(known)


def known(value: int = 0) -> int:
    """First line,
    still the first paragraph.

    Second.
    """
    return value


@pytest.mark.parametrize(
    ("fields", "error", "field"),
    [
        ({"args": [datetime(2030, 1, 1, tzinfo=UTC)]}, api.PayloadNotJSON, "args"),
        ({"args": [{1, 2}]}, api.PayloadNotJSON, "args"),
        ({"args": [math.nan]}, api.PayloadNotJSON, "args"),
        ({"args": [math.inf]}, api.PayloadNotJSON, "args"),
        ({"args": ["a\x00b"]}, api.PayloadNotJSON, "args"),
        ({"args": ["\ud800"]}, api.PayloadNotJSON, "args"),
        ({"args": "text"}, api.PayloadNotJSON, "args"),
        ({"args": [{1: "int key"}]}, api.PayloadNotJSON, "args"),
        ({"args": [[[{"deep": {2: 1}}]]]}, api.PayloadNotJSON, "args"),
        ({"kwargs": {"when": datetime(2030, 1, 1, tzinfo=UTC)}}, api.PayloadNotJSON, "kwargs"),
        ({"kwargs": [1]}, api.PayloadNotJSON, "kwargs"),
        ({"args": ["x" * 262_145]}, api.PayloadTooLarge, "args"),
        ({"kwargs": {"k": "ü" * 131_073}}, api.PayloadTooLarge, "kwargs"),
        ({"run_after": datetime(2030, 1, 1)}, api.InvalidMessage, "run_after"),
        ({"queue": ""}, api.InvalidMessage, "queue"),
        ({"queue": "q" * 129}, api.InvalidMessage, "queue"),
        ({"queue": "a,b"}, api.InvalidMessage, "queue"),  # no worker could name it
        ({"queue": "a "}, api.InvalidMessage, "queue"),
        ({"queue": "-a"}, api.InvalidMessage, "queue"),
        ({"queue": "a\n"}, api.InvalidMessage, "queue"),
        ({"priority": 0}, api.InvalidMessage, "priority"),
        ({"priority": 11}, api.InvalidMessage, "priority"),
        ({"priority": True}, api.InvalidMessage, "priority"),
        ({"max_attempts": 0}, api.InvalidMessage, "max_attempts"),
        ({"max_attempts": 40_000}, api.InvalidMessage, "max_attempts"),
        ({"organization_id": "o" * 65}, api.InvalidMessage, "organization_id"),
        ({"report_to": "r" * 33}, api.InvalidMessage, "report_to"),
        ({"queue": ["unhashable"]}, api.InvalidMessage, "queue"),
        ({"priority": 5.0}, api.InvalidMessage, "priority"),
        ({"queue": "\ud800"}, api.InvalidMessage, "queue"),
        ({"organization_id": "\ud800"}, api.InvalidMessage, "organization_id"),
        ({"report_to": "a\x00"}, api.InvalidMessage, "report_to"),
        ({"headers": {"h": math.nan}}, api.PayloadNotJSON, "headers"),
        ({"headers": ["not", "a", "mapping"]}, api.PayloadNotJSON, "headers"),
        ({"headers": []}, api.PayloadNotJSON, "headers"),
        ({"headers": {"h": "x" * 262_145}}, api.PayloadTooLarge, "headers"),
        ({"args": [10**5000]}, api.PayloadNotJSON, "args"),
        ({"args": nested(201)}, api.PayloadNotJSON, "args"),
        ({"args": nested(100_000)}, api.PayloadNotJSON, "args"),
        ({"args": [Decimal("1.5")]}, api.PayloadNotJSON, "args"),
        ({"args": [Hostile()]}, api.PayloadNotJSON, "args"),
        ({"id": "not-a-uuid"}, api.InvalidMessage, "id"),
        ({"run_after": "tomorrow"}, api.InvalidMessage, "run_after"),
        ({"run_after": BEYOND}, api.InvalidMessage, "run_after"),
        ({"key": ""}, api.InvalidMessage, "key"),
        ({"key": "k" * 256}, api.InvalidMessage, "key"),
        ({"key": "a\x00"}, api.InvalidMessage, "key"),
        ({"key": "\ud800"}, api.InvalidMessage, "key"),
        ({"key": 7}, api.InvalidMessage, "key"),
        ({"key": "k", "key_ttl": 7}, api.InvalidMessage, "key_ttl"),
        ({"key": "k", "key_ttl": timedelta(seconds=-1)}, api.InvalidMessage, "key_ttl"),
        ({"key": "k", "key_ttl": timedelta.max}, api.InvalidMessage, "key_ttl"),
        ({"on_success": "text"}, api.InvalidMessage, "on_success"),
        ({"on_success": [{"task": "test.plain"}]}, api.InvalidMessage, "on_success"),
        ({"on_failure": [PLAIN, BAD]}, api.PayloadNotJSON, "on_failure[1].args"),
        ({"on_success": [chained(1, BAD)]}, api.PayloadNotJSON, "on_success[0].on_success[0].args"),
        ({"on_success": [chained(21)]}, api.InvalidMessage, "on_success" + "[0].on_success" * 20),
        ({"on_success": [LARGE, LARGE]}, api.PayloadTooLarge, "on_success"),
        ({"on_failure": [LARGE, LARGE]}, api.PayloadTooLarge, "on_failure"),
    ],
)
def test_bad_input_is_refused_with_its_field_and_nothing_is_stored(
    fields: dict[str, Any], error: type[api.InvalidMessage], field: str
) -> None:
    with pytest.raises(error) as caught:
        api.enqueue("test.plain", **fields)
    assert caught.value.field == field
    assert "expected" in str(caught.value)
    assert "got" in str(caught.value)
    assert not Message.objects.exists()


def test_an_unknown_task_is_refused_with_the_names_that_look_like_it() -> None:
    with pytest.raises(api.UnknownTask, match=r"did you mean .*test\.plain"):
        api.enqueue("test.plian")


def test_an_unknown_task_is_refused_in_a_continuation_too() -> None:
    with pytest.raises(api.UnknownTask):
        api.enqueue("test.plain", on_failure=[api.NewMessage(task="test.plian")])


def test_continuations_are_checked_as_deep_as_they_go_and_get_their_tasks_attempts() -> None:
    checked = checked_message(chained(19, api.NewMessage(task="test.known")), max_bytes=262_144)
    for _ in range(19):
        (checked,) = checked.on_success
    assert (checked.task, checked.max_attempts) == ("test.known", 9)


def test_the_longest_key_and_time_to_live_are_taken() -> None:
    first = api.enqueue("test.plain", key="ü" * 255, key_ttl=timedelta(days=36600))
    assert api.enqueue("test.plain", key="ü" * 255) == first
    assert api.enqueue("test.plain", key="ü" * 254) != first


def test_a_store_that_does_not_exist_is_refused_with_those_that_do() -> None:
    for ask in (
        lambda: api.enqueue("test.plain", using="other"),
        lambda: api.get_messages([], using="other"),
        lambda: api.take_outcomes("me", limit=1, using="other"),
        lambda: api.depths(using="other"),
        lambda: api.replay([], using="other"),
        lambda: api.cancel([], using="other"),
        lambda: api.wait(uuid.uuid4(), timeout=timedelta(), using="other"),
    ):
        with pytest.raises(api.Configuration, match="expected an alias among default, got: 'other'"):
            ask()


def test_a_large_payload_just_fits() -> None:
    message_id = api.enqueue("test.plain", ["x" * (262_144 - len('[""]') - len("{}"))])
    assert len(api.get_messages([message_id])[message_id].args[0]) == 262_138


def test_brackets_in_a_text_are_no_depth() -> None:
    message_id = api.enqueue("test.plain", ["[{" * 500 + '"\\'], headers={})
    assert api.get_messages([message_id])[message_id].args == ["[{" * 500 + '"\\']
    assert api.enqueue("test.plain", nested(200))


def test_a_backslash_before_u0000_is_no_nul() -> None:
    message_id = api.enqueue("test.plain", ["\\u0000", "\\\\u0000"])
    assert api.get_messages([message_id])[message_id].args == ["\\u0000", "\\\\u0000"]


def test_attempts_are_the_messages_own_then_the_tasks_then_the_setting() -> None:
    ids = [
        api.enqueue("test.known", max_attempts=2),
        api.enqueue("test.known"),
        api.enqueue("test.plain"),
    ]
    found = api.get_messages(ids)
    assert [found[message_id].max_attempts for message_id in ids] == [2, 9, api.queue_settings().max_attempts]


def test_set_based_enqueue_stores_what_its_source_says() -> None:
    source = f"""
        SELECT {api.NEW_ID_SQL} AS id, 'q' AS queue, 7 AS priority, task, '[1]'::jsonb AS args, '{{}}'::jsonb AS kwargs,
               '{{"h": 1}}'::jsonb AS headers, 'acme' AS organization_id, 'me' AS report_to,
               max_attempts::smallint AS max_attempts, NULL::timestamptz AS run_after
        FROM (VALUES ('test.known', NULL), ('test.plain', NULL), ('test.known', 4)) AS v (task, max_attempts)
    """
    with connection.cursor() as cursor:
        cursor.execute(f"WITH due AS MATERIALIZED ({source}), sent AS ({api.enqueue_sql('due')}) SELECT 1", [])
        cursor.execute(api.wake_sql(), {"queues": ["q"]})
    found = api.get_messages(Message.objects.values_list("pk", flat=True)).values()
    assert sorted((m.task, m.max_attempts) for m in found) == [
        ("test.known", 4),
        ("test.known", 9),
        ("test.plain", api.queue_settings().max_attempts),
    ]
    assert {(m.queue, m.priority, m.organization_id, m.report_to) for m in found} == {("q", 7, "acme", "me")}
    assert [
        c.message.args for c in api.store().claim(queues=["q"], limit=9, lease=timedelta(seconds=9), worker="w")
    ] == [[1]] * 3


def test_the_registry_shows_names_signatures_and_docs() -> None:
    info = api.get_task("test.known")
    assert (info.signature, info.doc) == ("(value: 'int' = 0) -> 'int'", "First line, still the first paragraph.")
    assert [found.name for found in api.tasks()] == sorted(found.name for found in api.tasks())


def test_a_name_that_is_taken_is_refused() -> None:
    with pytest.raises(ValueError, match=r"test\.plain"):
        api.task("test.plain")(lambda: None)


def test_a_message_of_the_same_id_is_refused() -> None:
    message_id = uuid.uuid4()
    api.enqueue("test.plain", id=message_id)
    with pytest.raises(Exception, match="pg_queue_message_pkey"):
        api.enqueue("test.plain", id=message_id)


def test_workers_are_listed_the_last_heard_of_first() -> None:
    for worker_id in ("h:1:1", "h:2:2"):
        store().workers.announce(worker_id, host="h", process_id=1, queues=["default"], concurrency=2)
    store().workers.beat("h:1:1", running=1, finished=5, failed=0)
    first, second = api.workers()
    assert (first.id, first.finished, first.running, first.stopped_at) == ("h:1:1", 5, 1, None)
    assert second.id == "h:2:2"


@pytest.mark.parametrize("reason", ["a\x00b", "a\ud800b", "x" * 2001, None])
def test_a_reason_that_cannot_be_kept_is_refused_by_name_and_nothing_is_done(reason: Any) -> None:
    message_id = api.enqueue("noop")
    operator = api.Operator("root")
    for act in (
        lambda: api.cancel([message_id], reason=reason),
        lambda: operator.purge("default", reason=reason),
        lambda: operator.turn("default", is_on=False, reason=reason),
    ):
        with pytest.raises(api.InvalidMessage, match="reason: expected a text of 0 to 2000 characters"):
            act()
    assert api.get_messages([message_id])[message_id].state is api.MessageState.WAITING
    assert api.store().switches.list() == []


@pytest.mark.parametrize(
    "call",
    [
        lambda ids: api.get_messages(ids),
        lambda ids: api.get_barriers(ids),
        lambda ids: api.replay(ids),
        lambda ids: api.cancel(ids),
        lambda ids: api.get_results(ids),
    ],
    ids=["get_messages", "get_barriers", "replay", "cancel", "get_results"],
)
def test_what_is_no_id_is_refused_by_its_place(call: Any) -> None:
    for one in ("abc", 5, None, str(uuid.uuid4())):
        with pytest.raises(api.InvalidMessage, match=r"ids\[1\]: expected a uuid.UUID, got"):
            call([uuid.uuid4(), one])
    with pytest.raises(api.InvalidMessage, match=r"ids: expected a list of uuid.UUID, got"):
        call(uuid.uuid4())


@pytest.mark.parametrize("call", [api.get_result, lambda one: api.wait(one, timeout=timedelta())])
def test_a_single_one_that_is_none_is_refused(call: Any) -> None:
    with pytest.raises(api.InvalidMessage, match=r"message_id: expected a uuid.UUID, got: 'abc'"):
        call("abc")
