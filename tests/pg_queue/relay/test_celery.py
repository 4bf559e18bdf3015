"""What is sent to a real broker, and what a broker that is away, frozen or refusing does to the sender."""

from __future__ import annotations

import json
import socket
import threading
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from celery import Celery
from kombu import Connection, Exchange, Queue

from pg_queue.celery import sending
from pg_queue.celery.sending import CeleryTarget, app_at, connection_to, priority_of
from pg_queue.domain import NewMessage
from pg_queue.errors import Configuration
from pg_queue.routes import Routes, parse_routes
from tests.services import RABBITMQ_URL, REDIS_URL

PATH = "tests.pg_queue.relay.test_celery.app"
app = Celery("sent", set_as_current=False)
"""Stands for the project's; `broker` points it at a real one."""

EACH_BROKER = [
    pytest.param(RABBITMQ_URL, marks=pytest.mark.services("rabbitmq"), id="rabbitmq"),
    pytest.param(REDIS_URL, marks=pytest.mark.services("redis"), id="redis"),
]


@app.task(name="sent.urgent", priority=9, shared=False)
def urgent(number: int) -> None:
    """A task with an option of its own, and a signature."""


class Broker:
    """A real broker's queue of the test's own."""

    def __init__(self, url: str) -> None:
        self.name = f"downbeat_test_{uuid.uuid4().hex}"
        self.url = url
        self.options = {} if url.startswith("amqp") else {"global_keyprefix": f"{self.name}:"}
        app.conf.update(
            broker_url=url,
            broker_transport_options=dict(self.options),
            task_default_queue=self.name,
            result_backend=None,
        )
        for cached in ("amqp", "backend"):
            app.__dict__.pop(cached, None)
        self.connection = Connection(url, transport_options=self.options)

    def received(self, queue: str | None = None) -> list[Any]:
        """The messages that wait, taken."""
        channel = self.connection.default_channel
        bound = Queue(queue or self.name, channel=channel)
        return list(iter(lambda: bound.get(no_ack=True), None))

    def close(self) -> None:
        channel = self.connection.default_channel
        for name in (self.name, f"{self.name}_other"):
            Queue(name, channel=channel).delete()
            if self.url.startswith("amqp"):
                Exchange(name, channel=channel).delete()
        if not self.url.startswith("amqp"):
            client = channel.client.connection_pool
            import redis

            plain = redis.Redis(connection_pool=client)
            for key in plain.scan_iter(f"{self.name}:*"):
                plain.delete(key)
        self.connection.release()


@pytest.fixture
def broker(request: pytest.FixtureRequest) -> Iterator[Broker]:
    """The one whose URL the test is parametrized with."""
    made = Broker(request.param)
    yield made
    made.close()


each_broker = pytest.mark.parametrize("broker", EACH_BROKER, indirect=True)


def message(**fields: Any) -> NewMessage:
    return NewMessage(**{"task": "elsewhere.report", "id": uuid.uuid4(), **fields})


def target(routes: Any = None) -> CeleryTarget:
    return CeleryTarget(PATH, parse_routes(routes or {"*": {"CELERY": PATH}}, []))


@each_broker
def test_a_message_is_a_task_of_celery_under_its_own_id(broker: Broker) -> None:
    sent = message(args=[1], kwargs={"b": "ü"}, headers={"schedule_id": "s"})
    assert list(target().send([sent])) == [(sent.id, None)]
    (found,) = broker.received()
    args, kwargs, _ = json.loads(found.body)
    assert (found.headers["id"], found.headers["task"]) == (str(sent.id), "elsewhere.report")
    assert (args, kwargs, found.headers["schedule_id"]) == ([1], {"b": "ü"}, "s")
    assert found.headers["eta"] is None


@each_broker
def test_the_queue_is_the_routes_or_the_messages_or_celerys_own(broker: Broker) -> None:
    other = f"{broker.name}_other"
    routes = {"*": {"CELERY": PATH}, "named": {"CELERY": PATH, "QUEUE": other}}
    sent = [message(), message(queue=other), message(queue="named")]
    assert [error for _, error in target(routes).send(sent)] == [None] * 3
    assert [found.headers["id"] for found in broker.received()] == [str(sent[0].id)]
    assert sorted(found.headers["id"] for found in broker.received(other)) == sorted(str(m.id) for m in sent[1:])


@each_broker
def test_what_is_to_run_later_has_an_eta_and_what_is_late_has_none(broker: Broker) -> None:
    later = datetime.now(UTC) + timedelta(hours=1)
    list(target().send([message(run_after=later), message(run_after=later - timedelta(hours=2))]))
    assert {found.headers["eta"] for found in broker.received()} == {later.isoformat(), None}


@each_broker
def test_a_task_that_the_app_knows_goes_by_its_own_options_and_its_signature_is_held(broker: Broker) -> None:
    good, bad = message(task="sent.urgent", args=[1]), message(task="sent.urgent", args=[1, 2])
    (_, nothing), (_, error) = target().send([good, bad])
    assert nothing is None
    assert isinstance(error, TypeError)
    (found,) = broker.received()
    assert found.properties["priority"] == 9


@pytest.mark.parametrize(("priority", "amqp", "redis"), [(1, 1, 9), (4, 4, 6), (5, None, None), (6, 6, 4), (10, 10, 0)])
def test_priorities_as_each_broker_counts_them(priority: int, amqp: int | None, redis: int | None) -> None:
    assert [priority_of(priority, driver) for driver in ("amqp", "redis", "sqs")] == [amqp, redis, None]


@pytest.mark.services("redis")
@pytest.mark.parametrize("broker", EACH_BROKER[1:], indirect=True)
def test_redis_hands_out_the_higher_priority_first(broker: Broker) -> None:
    sent = [message(priority=priority) for priority in (1, 10, 7)]
    list(target().send(sent))
    assert [found.headers["id"] for found in broker.received()] == [str(sent[n].id) for n in (1, 2, 0)]


@pytest.mark.parametrize("broker", EACH_BROKER[:1], indirect=True)
def test_rabbitmq_confirms_each_message_whatever_the_app_says(broker: Broker) -> None:
    app.conf.broker_transport_options = {"confirm_publish": False, "client_properties": {"a": "b"}}
    with connection_to(app) as connection:
        assert connection.transport_options["confirm_publish"] is True
        assert connection.transport_options["client_properties"] == {"a": "b"}
        assert connection.default_channel.basic_publish.__name__ == "basic_publish_confirm"


@pytest.mark.parametrize("broker", EACH_BROKER[:1], indirect=True)
def test_a_message_that_rabbitmq_refuses_is_named_and_the_others_are_sent(broker: Broker) -> None:
    """A full queue that rejects: the broker says no to one message, and goes on."""
    channel = broker.connection.default_channel
    full = Queue(
        f"{broker.name}_other", channel=channel, queue_arguments={"x-max-length": 1, "x-overflow": "reject-publish"}
    )
    full.declare()
    app.conf.task_queues = [full, Queue(broker.name)]
    app.__dict__.pop("amqp", None)
    try:
        sent = [message(queue=full.name), message(queue=full.name), message(queue=broker.name)]
        errors = [error for _, error in target().send(sent)]
    finally:
        app.conf.task_queues = None
    assert [error is None for error in errors] == [True, False, True]
    assert [found.headers["id"] for found in broker.received()] == [str(sent[2].id)]


@pytest.mark.parametrize("scheme", ["amqp://guest:guest@127.0.0.1:{port}//", "redis://127.0.0.1:{port}/0"])
def test_a_broker_that_is_away_ends_the_batch(scheme: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    app.conf.update(broker_url=scheme.format(port=port), broker_transport_options={})
    app.__dict__.pop("amqp", None)
    sent = [message(), message()]
    ((told, error),) = target().send(sent)
    assert told == sent[0].id
    assert error is not None


@pytest.mark.parametrize("scheme", ["amqp://guest:guest@127.0.0.1:{port}//", "redis://127.0.0.1:{port}/0"])
def test_a_broker_that_accepts_and_never_answers_does_not_hold_the_sender(
    scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending, "PATIENCE_SECONDS", 1)
    monkeypatch.setattr(
        sending,
        "_TRANSPORT_OPTIONS",
        {
            "amqp": {"read_timeout": 1, "write_timeout": 1},
            "redis": {"socket_timeout": 1, "socket_connect_timeout": 1},
        },
    )
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        app.conf.update(broker_url=scheme.format(port=port), broker_transport_options={}, broker_connection_timeout=1)
        app.__dict__.pop("amqp", None)
        done: list[Any] = []
        thread = threading.Thread(target=lambda: done.extend(target().send([message(), message()])), daemon=True)
        thread.start()
        thread.join(60)
        assert not thread.is_alive()
    ((_, error),) = done
    assert error is not None


@pytest.mark.parametrize("path", ["nowhere.app", "tests.pg_queue.relay.test_celery.nothing", "pg_queue.api.enqueue"])
def test_a_path_without_a_celery_app_is_refused_by_name(path: str) -> None:
    with pytest.raises(Configuration, match=f"expected a Celery app at '{path}'"):
        app_at(path)


def test_the_paths_of_celerys_command_line_are_understood() -> None:
    assert app_at(PATH.replace(".app", ":app")) is app
    assert isinstance(Routes({}), Routes)
