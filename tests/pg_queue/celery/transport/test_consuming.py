"""What kombu promises of a transport: what is published is consumed, what is acknowledged is gone, the rest comes back.

Two connections are two processes as far as the server can tell: each has a session of its own.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from celery import Celery
from django.db import transaction
from kombu import Connection, Exchange, Producer, Queue
from kombu.exceptions import ChannelError

from pg_queue.errors import PayloadTooLarge
from pg_queue.models import DeadLetter, Message, Result
from tests.pg_queue.celery.transport.conftest import Connect, consumer_of, drain, drain_all

pytestmark = [
    pytest.mark.django_db(transaction=True, available_apps=["pg_queue"]),
    pytest.mark.postgresql("the transport is on PostgreSQL alone"),
]

app = Celery("consuming", broker="downbeat://", set_as_current=False)
app.conf.broker_transport_options = {"polling_interval": 0.1}


@app.task(name="consuming.add")
def add(x: int, y: int) -> int:
    return x + y


@pytest.fixture(autouse=True, scope="module")
def _close_app() -> Iterator[None]:
    """Its pooled connections, whose sessions would keep the database from being dropped."""
    yield
    app.pool.force_close_all()


def publish(connection: Connection, queue: str, *bodies: Any, **options: Any) -> None:
    with connection.channel() as channel:
        producer = Producer(channel)
        for body in bodies:
            producer.publish(body, routing_key=queue, **options)


@pytest.mark.parametrize("body", [{"a": [1, None, "ü"]}, "text", [1.5, True], None])
@pytest.mark.parametrize("serializer", ["json", "pickle"])
def test_what_is_published_is_consumed_and_acknowledged_is_gone(
    connect: Connect, name: str, body: Any, serializer: str
) -> None:
    publish(connect(), name, body, serializer=serializer, headers={"h": 1}, correlation_id="c")
    taking = connect()
    _, got = consumer_of(taking, Queue(name), accept=["json", "pickle"])

    drain(taking, got, 1)
    message = got.messages[0]
    assert got == [body]
    assert message.headers["h"] == 1
    assert message.properties["correlation_id"] == "c"
    assert not message.delivery_info["redelivered"]
    message.ack()

    assert not Message.objects.exists()
    assert not Result.objects.exists()
    drain_all(taking)
    assert len(got) == 1


def test_a_bodys_bytes_arrive_as_they_were(connect: Connect, name: str) -> None:
    body = bytes(range(256))
    publish(connect(), name, body, content_type="application/data", content_encoding="binary")
    taking = connect()
    _, got = consumer_of(taking, Queue(name), accept=["application/data"])
    drain(taking, got, 1)
    assert bytes(got[0]) == body


def test_first_in_is_first_out(connect: Connect, name: str) -> None:
    publish(connect(), name, *range(30))
    taking = connect()
    _, got = consumer_of(taking, Queue(name))
    drain(taking, got, 30)
    assert got == list(range(30))


def test_the_larger_priority_goes_first_and_none_is_in_the_middle(connect: Connect, name: str) -> None:
    giving = connect()
    for priority in (0, None, 9, 4, 5):
        publish(giving, name, priority, priority=priority)
    taking = connect()
    _, got = consumer_of(taking, Queue(name))
    drain(taking, got, 5)
    assert got == [9, 5, None, 4, 0]
    assert [m.delivery_info["priority"] for m in got.messages] == [9, 5, 4, 4, 0]


def test_no_more_than_the_prefetch_count_are_out_at_once(connect: Connect, name: str) -> None:
    publish(connect(), name, *range(10))
    taking = connect()
    _, got = consumer_of(taking, Queue(name), prefetch=3)
    drain_all(taking)
    assert got == [0, 1, 2]
    assert Message.objects.filter(claim_token__isnull=False).count() == 3

    got.messages[0].ack()
    drain_all(taking)
    assert got == [0, 1, 2, 3]


def test_a_rejected_message_is_a_dead_letter(connect: Connect, name: str) -> None:
    publish(connect(), name, "bad")
    taking = connect()
    _, got = consumer_of(taking, Queue(name))
    drain(taking, got, 1)
    got.messages[0].reject()
    assert not Message.objects.exists()
    assert DeadLetter.objects.get().error["type"] == "celery.rejected"


def test_a_requeued_message_comes_back_in_its_old_place_and_says_so(connect: Connect, name: str) -> None:
    publish(connect(), name, "first", "second")
    taking = connect()
    _, got = consumer_of(taking, Queue(name), prefetch=1)
    drain(taking, got, 1)
    got.messages[0].requeue()
    drain(taking, got, 2)
    assert got == ["first", "first"]
    assert got.messages[1].delivery_info["redelivered"]


def test_a_message_may_be_requeued_more_often_than_it_may_be_delivered(connect: Connect, name: str) -> None:
    taking = connect(max_deliveries=2)
    publish(taking, name, "again")
    _, got = consumer_of(taking, Queue(name))
    for count in range(1, 6):
        drain(taking, got, count)
        got.messages[-1].requeue()
    assert not DeadLetter.objects.exists()


def test_what_is_not_acknowledged_when_the_connection_closes_is_anothers(connect: Connect, name: str) -> None:
    publish(connect(), name, *range(5))
    leaving = connect()
    _, got = consumer_of(leaving, Queue(name), prefetch=4)
    drain(leaving, got, 2)
    got.messages[0].ack()
    leaving.release()

    taking = connect()
    _, rest = consumer_of(taking, Queue(name))
    drain(taking, rest, 4)
    assert rest == [1, 2, 3, 4]
    assert [m.delivery_info["redelivered"] for m in rest.messages] == [True, True, True, False]


def test_recover_gives_back_what_is_not_acknowledged(connect: Connect, name: str) -> None:
    publish(connect(), name, "x")
    taking = connect()
    consumer, got = consumer_of(taking, Queue(name))
    drain(taking, got, 1)
    consumer.recover(requeue=True)
    drain(taking, got, 2)
    assert got == ["x", "x"]


def test_a_cancelled_consumer_gives_back_what_was_fetched_for_it(connect: Connect, name: str) -> None:
    publish(connect(), name, *range(5))
    taking = connect()
    consumer, got = consumer_of(taking, Queue(name))
    drain(taking, got, 1)
    consumer.cancel()
    assert Message.objects.filter(claim_token__isnull=True).count() == 4


def test_without_acknowledgement_a_message_is_gone_when_it_is_handed_over(connect: Connect, name: str) -> None:
    publish(connect(), name, 1, 2)
    taking = connect()
    _, got = consumer_of(taking, Queue(name), no_ack=True)
    drain(taking, got, 2)
    assert not Message.objects.exists()


def test_one_message_can_be_had_without_consuming(connect: Connect, name: str) -> None:
    connection = connect()
    publish(connection, name, "one")
    queue = Queue(name)(connection.channel())
    message = queue.get()
    assert message.payload == "one"
    assert queue.get() is None
    message.ack()
    assert not Message.objects.exists()


def test_each_message_is_one_consumers(connect: Connect, name: str) -> None:
    publish(connect(), name, *range(60))
    got: list[list[Any]] = [[], [], []]

    def consume(mine: list[Any]) -> None:
        connection = connect()
        _, bodies = consumer_of(connection, Queue(name), prefetch=4)
        deadline = time.monotonic() + 20
        while sum(map(len, got)) < 60 and time.monotonic() < deadline:
            try:
                connection.drain_events(timeout=0.2)
            except TimeoutError:
                continue
            bodies.messages[-1].ack()
            mine.append(bodies[-1])
        connection.release()

    threads = [threading.Thread(target=consume, args=(mine,)) for mine in got]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(body for mine in got for body in mine) == list(range(60))


def test_queues_take_turns(connect: Connect, name: str) -> None:
    giving = connect()
    for queue in ("a", "b"):
        publish(giving, name + queue, *[queue] * 4)
    taking = connect()
    _, got = consumer_of(taking, Queue(name + "a"), Queue(name + "b"), prefetch=1)
    for count in range(1, 5):
        drain(taking, got, count)
        got.messages[-1].ack()
    assert sorted(got[:2]) == sorted(got[2:4]) == ["a", "b"]


def test_queues_by_priority_go_one_after_the_other(connect: Connect, name: str) -> None:
    giving = connect()
    for queue in ("a", "b"):
        publish(giving, name + queue, *[queue] * 2)
    taking = connect(queue_order_strategy="priority")
    _, got = consumer_of(taking, Queue(name + "a"), Queue(name + "b"), prefetch=1)
    for count in range(1, 5):
        drain(taking, got, count)
        got.messages[-1].ack()
    assert got == ["a", "a", "b", "b"]


def test_a_waiting_consumer_is_woken_by_a_commit_and_not_by_its_poll(connect: Connect, name: str) -> None:
    taking = connect(polling_interval=30)
    _, got = consumer_of(taking, Queue(name))
    drain_all(taking)
    giving = connect()
    began = time.monotonic()
    timer = threading.Timer(0.2, publish, [giving, name, "woken"])
    timer.start()
    drain(taking, got, 1)
    timer.join()
    assert time.monotonic() - began < 10


def test_a_publish_belongs_to_the_callers_transaction(connect: Connect, name: str) -> None:
    connection = connect()
    with transaction.atomic():
        publish(connection, name, "never")
        transaction.set_rollback(True)
    assert not Message.objects.exists()
    with transaction.atomic():
        publish(connection, name, "kept")
    assert Message.objects.get().queue == name


def test_one_id_published_twice_is_two_messages(connect: Connect, name: str) -> None:
    task_id = str(uuid.uuid4())
    for x in (1, 2):
        add.apply_async((x, x), task_id=task_id, queue=name)
    assert sorted(m.args for m in Message.objects.all()) == [[1, 1], [2, 2]]
    taking = connect()
    _, got = consumer_of(taking, Queue(name))
    drain(taking, got, 2)
    assert {m.headers["id"] for m in got.messages} == {task_id}


def test_the_database_holds_a_message_until_its_eta(connect: Connect, name: str) -> None:
    add.apply_async((1, 2), queue=name, countdown=0.8)
    add.apply_async((3, 4), queue=name, eta=datetime.now(UTC) + timedelta(hours=1))
    taking = connect(polling_interval=20)
    _, got = consumer_of(taking, Queue(name))
    began = time.monotonic()
    drain(taking, got, 1, seconds=15)
    assert got[0][0] == [1, 2]
    assert time.monotonic() - began < 10
    drain_all(taking)
    assert len(got) == 1
    assert Message.objects.filter(claim_token__isnull=True).count() == 1


def test_a_tasks_expiry_is_the_rows(name: str) -> None:
    add.apply_async((1, 2), queue=name, expires=60)
    expires_at = datetime.fromisoformat(Message.objects.get().headers["expires_at"])
    assert timedelta(seconds=30) < expires_at - datetime.now(UTC) <= timedelta(seconds=60)


def test_purging_deletes_what_waits_and_leaves_what_is_out(connect: Connect, name: str) -> None:
    publish(connect(), name, *range(4))
    taking = connect()
    consumer, got = consumer_of(taking, Queue(name), prefetch=1)
    drain(taking, got, 1)
    assert consumer.purge() == 3
    assert Message.objects.count() == 1


def test_purging_tells_who_waits_for_an_end(connect: Connect, name: str) -> None:
    from pg_queue.domain import NewMessage
    from pg_queue.storage import store

    (message_id,) = store().enqueue([NewMessage(task="t", queue=name, report_to="ledger")])
    connection = connect()
    assert Queue(name)(connection.channel()).purge() == 1
    (outcome,) = store().take_outcomes("ledger", limit=5)
    assert (outcome.id, outcome.state) == (message_id, "cancelled")
    assert "purged" in outcome.error.message  # type: ignore[union-attr]


def test_a_passive_declaration_tells_how_much_waits(connect: Connect, name: str) -> None:
    connection = connect()
    channel = connection.channel()
    with pytest.raises(ChannelError, match="NOT_FOUND"):
        channel.queue_declare(name, passive=True)
    channel.queue_declare(name, durable=True)
    publish(connection, name, 1, 2)
    add.apply_async((1, 1), queue=name, countdown=3600)
    assert channel.queue_declare(name, passive=True).message_count == 2
    channel.queue_delete(name, if_empty=True)
    assert channel.queue_declare(name, passive=True).message_count == 2
    channel.queue_delete(name)
    with pytest.raises(ChannelError, match="NOT_FOUND"):
        channel.queue_declare(name, passive=True)


def test_a_message_that_is_too_large_is_refused_where_it_is_published(connect: Connect, name: str) -> None:
    connection = connect(max_message_bytes=1000)
    with pytest.raises(PayloadTooLarge, match="at most 1000 bytes"):
        publish(connection, name, "x" * 1000)
    assert not Message.objects.exists()


def test_a_direct_exchange_leads_to_the_queues_that_are_bound_with_the_key(connect: Connect, name: str) -> None:
    exchange = Exchange(f"{name}.x", "direct")
    declaring = connect()
    for suffix, key in (("a", "k1"), ("b", "k2"), ("c", "k1")):
        Queue(name + suffix, exchange, routing_key=key)(declaring.channel()).declare()
    publishing = connect()
    Producer(publishing.channel()).publish("hello", exchange=exchange.name, routing_key="k1")
    assert sorted(Message.objects.values_list("queue", flat=True)) == [f"{name}a", f"{name}c"]


def test_another_namespace_is_another_broker(connect: Connect, name: str) -> None:
    publish(connect("downbeat://?namespace=acme"), name, "theirs")
    ours = connect()
    _, got = consumer_of(ours, Queue(name))
    drain_all(ours)
    assert got == []
    theirs = connect(namespace="acme")
    _, got = consumer_of(theirs, Queue(name))
    drain(theirs, got, 1)
    assert got == ["theirs"]


def test_a_row_that_the_scheduler_or_anybody_stored_is_a_celery_message(connect: Connect, name: str) -> None:
    from pg_queue.domain import NewMessage
    from pg_queue.storage import store

    (message_id,) = store().enqueue([NewMessage(task="consuming.add", args=[1, 2], queue=name, priority=10)])
    taking = connect()
    _, got = consumer_of(taking, Queue(name))
    drain(taking, got, 1)
    headers = got.messages[0].headers
    assert got[0][:2] == [[1, 2], {}]
    assert (headers["task"], headers["id"]) == ("consuming.add", str(message_id))
