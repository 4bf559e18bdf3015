"""Fanout and what lives on it: commands to workers and their replies, events, queues that are one connection's own."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection as django_connection
from django.db import transaction
from kombu import Connection, Exchange, Producer, Queue
from kombu.common import Broadcast as BroadcastQueue
from kombu.exceptions import ChannelError
from kombu.pidbox import Mailbox

from pg_queue.models import Binding, Broadcast, BrokerQueue, Message
from pg_queue.storage import store
from tests.pg_queue.celery.transport.conftest import Connect, consumer_of, drain, drain_all

pytestmark = [
    pytest.mark.django_db(transaction=True, available_apps=["pg_queue"]),
    pytest.mark.postgresql("the transport is on PostgreSQL alone"),
]


def transient(name: str, exchange: Exchange, **options: Any) -> Queue:
    return Queue(name, exchange, durable=False, auto_delete=True, **options)


def let_time_pass(**delta: float) -> None:
    """For every queue that expires."""
    for queue in BrokerQueue.objects.filter(expires_at__isnull=False):
        assert queue.expires_at is not None
        BrokerQueue.objects.filter(pk=queue.pk).update(expires_at=queue.expires_at - timedelta(**delta))


def kill_session_of(connection: Connection) -> None:
    """As the death of its process would."""
    session = connection.transport.consumption.session
    connection.transport.consumption._keeper.stop(is_lost=False)
    with django_connection.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(%s, 5000)", [session._session.info.backend_pid])


def test_each_queue_of_a_fanout_exchange_gets_each_message(connect: Connect, name: str) -> None:
    exchange = Exchange(name, "fanout", durable=False)
    one, other = connect(), connect()
    _, first = consumer_of(one, transient(f"{name}.1", exchange), no_ack=True)
    _, second = consumer_of(other, transient(f"{name}.2", exchange), no_ack=True)
    giving = connect()
    for number in range(3):
        Producer(giving.channel()).publish(number, exchange=exchange.name)
    drain(one, first, 3)
    drain(other, second, 3)
    assert first == second == [0, 1, 2]
    assert not Broadcast.objects.exists()
    assert not Message.objects.exists()


def test_a_topic_leads_to_who_has_bound_a_pattern_that_matches(connect: Connect, name: str) -> None:
    exchange = Exchange(name, "topic", durable=False)
    taking = connect()
    _, everything = consumer_of(taking, transient(f"{name}.all", exchange, routing_key="#"), no_ack=True)
    _, workers = consumer_of(taking, transient(f"{name}.workers", exchange, routing_key="worker.*"), no_ack=True)
    giving = connect()
    for key in ("worker.online", "task.sent", "worker.a.b"):
        Producer(giving.channel()).publish(key, exchange=exchange.name, routing_key=key)
    drain(taking, everything, 3)
    drain_all(taking)
    assert sorted(everything) == ["task.sent", "worker.a.b", "worker.online"]
    assert workers == ["worker.online"]


def test_what_nobody_listens_to_is_kept_nowhere(connect: Connect, name: str) -> None:
    Producer(connect().channel()).publish("event", exchange=Exchange(name, "topic"), routing_key="k")
    assert not Broadcast.objects.exists()
    assert not Message.objects.exists()


def test_commands_are_answered_by_every_node(connect: Connect, name: str) -> None:
    nodes = [connect(), connect()]
    mailbox = Mailbox(name, type="fanout", queue_exclusive=False)
    stopping = threading.Event()

    def serve(connection: Connection, number: int) -> None:
        node = mailbox(connection).Node(f"node{number}", state={}, channel=connection.channel())
        node.handlers["double"] = lambda state, value: value * 2 + number
        with node.listen():
            ready[number].set()
            while not stopping.is_set():
                drain_all(connection, seconds=0.1)

    ready = [threading.Event(), threading.Event()]
    threads = [threading.Thread(target=serve, args=(one, number)) for number, one in enumerate(nodes)]
    for thread in threads:
        thread.start()
    for event in ready:
        event.wait(20)
    try:
        asking = connect()
        replies = mailbox(asking).multi_call("double", {"value": 21}, timeout=15, limit=2)
        assert sorted(reply[f"node{n}"] for reply in replies for n in (0, 1) if f"node{n}" in reply) == [42, 43]
        # The transaction of who asks is not theirs: they see the question at once.
        with transaction.atomic():
            only = mailbox(asking).call(["node1"], "double", {"value": 1}, timeout=15)
        assert only == [{"node1": 3}]
    finally:
        stopping.set()
        for thread in threads:
            thread.join(20)


def test_a_broadcast_of_tasks_is_kept_until_each_consumer_has_acknowledged_it(connect: Connect, name: str) -> None:
    taking = connect()
    _, first = consumer_of(taking, BroadcastQueue(name, queue=f"{name}.1"))
    _, second = consumer_of(taking, BroadcastQueue(name, queue=f"{name}.2"))
    Producer(connect().channel()).publish("reload", exchange=Exchange(name, "fanout"))
    drain(taking, first, 1)
    drain(taking, second, 1)
    assert Message.objects.count() == 2
    for message in (*first.messages, *second.messages):
        message.ack()
    assert not Message.objects.exists()


def test_a_queue_that_expires_lives_as_long_as_its_consumer_does(connect: Connect, name: str) -> None:
    exchange = Exchange(name, "fanout", durable=False)
    taking = connect()
    consumer_of(taking, transient(name, exchange, expires=9), no_ack=True)
    assert BrokerQueue.objects.get().ttl_seconds == 9
    let_time_pass(seconds=60)
    taking.transport.consumption._keeper._round()  # what its thread does every few seconds
    store().retain(limit=10)
    assert Binding.objects.count() == BrokerQueue.objects.count() == 1


def test_nothing_is_left_of_a_consumer_that_died(connect: Connect, name: str) -> None:
    exchange = Exchange(name, "fanout", durable=False)
    dying = connect()
    consumer_of(dying, transient(name, exchange, expires=9), no_ack=True)
    Producer(connect().channel()).publish("unread", exchange=exchange.name)
    assert Broadcast.objects.count() == 1
    kill_session_of(dying)
    store().retain(limit=10)
    assert BrokerQueue.objects.exists()  # it may only be slow
    let_time_pass(seconds=10)
    store().retain(limit=10)
    assert not Broadcast.objects.exists()
    assert not Binding.objects.exists()
    assert not BrokerQueue.objects.exists()


def test_a_consumer_that_was_frozen_while_its_queue_went_has_it_again(connect: Connect, name: str) -> None:
    exchange = Exchange(name, "fanout", durable=False)
    taking = connect()
    _, got = consumer_of(taking, transient(name, exchange, expires=9), no_ack=True)
    let_time_pass(seconds=60)
    store().retain(limit=10)
    assert not BrokerQueue.objects.exists()
    taking.transport.consumption._keeper._round()
    drain_all(taking)
    Producer(connect().channel()).publish("heard", exchange=exchange.name)
    drain(taking, got, 1)
    assert got == ["heard"]


def test_an_exclusive_queue_is_one_connections_until_that_ends(connect: Connect, name: str) -> None:
    owner = connect()
    queue = Queue(name, exclusive=True)
    queue(owner.channel()).declare()
    queue(owner.channel()).declare()  # its own as often as it likes
    with pytest.raises(ChannelError, match="RESOURCE_LOCKED"):
        queue(connect().channel()).declare()
    store().retain(limit=10)
    assert BrokerQueue.objects.count() == 1
    kill_session_of(owner)
    store().retain(limit=10)
    assert not BrokerQueue.objects.exists()  # at once: its owner's lock is gone
    queue(connect().channel()).declare()


def test_a_reply_to_a_queue_by_its_name_reaches_who_has_declared_it(connect: Connect, name: str) -> None:
    asking = connect()
    _, got = consumer_of(asking, Queue(name, exclusive=True), no_ack=True)
    Producer(connect().channel()).publish({"state": "SUCCESS"}, exchange="", routing_key=name)
    drain(asking, got, 1)
    assert got == [{"state": "SUCCESS"}]


def test_a_rejected_broadcast_can_be_requeued(connect: Connect, name: str) -> None:
    exchange = Exchange(name, "fanout", durable=False)
    taking = connect()
    _, got = consumer_of(taking, transient(name, exchange))
    Producer(connect().channel()).publish("x", exchange=exchange.name)
    drain(taking, got, 1)
    got.messages[0].requeue()
    drain(taking, got, 2)
    assert got == ["x", "x"]


def test_deleting_a_queue_deletes_its_bindings(connect: Connect, name: str) -> None:
    channel = connect().channel()
    queue = Queue(name, Exchange(f"{name}.x", "direct"), routing_key="k")(channel)
    queue.declare()
    assert list(channel.list_bindings()) == [(name, f"{name}.x", "k")]
    queue.unbind_from(Exchange(f"{name}.x", "direct"), "k")
    assert not Binding.objects.exists()
    queue.declare()
    queue.delete()
    assert not Binding.objects.exists()
    assert not BrokerQueue.objects.exists()
    queue.declare()
    assert Binding.objects.count() == BrokerQueue.objects.count() == 1


def test_broadcasts_cost_the_write_ahead_log_nothing() -> None:
    with django_connection.cursor() as cursor:
        cursor.execute("SELECT relpersistence FROM pg_class WHERE relname = 'pg_queue_broadcast'")
        assert cursor.fetchone() == ("u",)
