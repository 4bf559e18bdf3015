"""Queues of a test's own at a real Redis and a real RabbitMQ, and Celery apps whose old broker is there."""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from celery import Celery
from django.core.management import call_command
from kombu import Connection, Queue
from redis import Redis

from pg_queue.celery.transport import transport as transport_module
from tests.services import RABBITMQ_URL, REDIS_URL


class OldBroker:
    """One queue, and what a Celery app at it sends."""

    def __init__(self, url: str) -> None:
        self.url, self.queue = url, f"downbeat_drain_{uuid.uuid4().hex}"
        self.is_redis = not url.startswith("amqp")
        self.options: dict[str, Any] = {"global_keyprefix": f"{self.queue}:"} if self.is_redis else {}
        self.app = Celery("old", broker=url, set_as_current=False, fixups=[])
        self.app.conf.update(
            broker_transport_options=self.options,
            task_queues=[Queue(self.queue, queue_arguments=None if self.is_redis else {"x-max-priority": 10})],
            task_default_queue=self.queue,
            task_ignore_result=True,
            broker_heartbeat=2,  # so that a worker looks up from its socket, also to see that it is to stop
            worker_hijack_root_logger=False,
            worker_redirect_stdouts=False,
        )
        self.app.task(name="old.note", shared=False)(note)
        self._connection = self.app.connection_for_write()
        self.app.amqp.queues[self.queue].bind(self._connection.default_channel).declare()
        self.producer = self.app.amqp.Producer(self._connection)  # not the pool's: tests share that, and close it

    def arguments(self, **options: Any) -> list[str]:
        """Of the command, for this broker and queue."""
        given = {**self.options, **options}
        told = [f"--transport-option={name}={value}" for name, value in given.items()]
        return ["drain_broker", f"--from={self.url}", f"--queue={self.queue}", *told]

    def send(self, *args: Any, name: str = "old.note", **options: Any) -> str:
        """A task; its id."""
        return str(self.app.send_task(name, args=args, producer=self.producer, **options).id)

    def send_many(self, count: int) -> set[str]:
        """Tasks with the numbers from 0 on; their ids."""
        return {self.send(number) for number in range(count)}

    def publish(self, body: Any, **options: Any) -> None:
        """A message that Celery would not send."""
        self._connection.Producer().publish(body, routing_key=self.queue, **options)

    def connect(self) -> Connection:
        """A connection of kombu's."""
        return Connection(self.url, transport_options=self.options)

    def depth(self) -> int:
        """How many wait."""
        with self.connect() as connection:
            channel: Any = connection.default_channel
            if self.is_redis:
                return int(channel._size(self.queue))
            return int(channel.queue_declare(self.queue, passive=True).message_count)

    def held(self) -> int:
        """How many are unacknowledged; RabbitMQ does not say, so none."""
        if not self.is_redis:
            return 0
        with Redis.from_url(self.url) as client:
            return int(client.hlen(f"{self.queue}:unacked"))

    def remove(self) -> None:
        """Leave nothing behind."""
        self._connection.release()
        if self.is_redis:
            with Redis.from_url(self.url) as client:
                for key in client.scan_iter(f"{self.queue}:*", count=1000):
                    client.delete(key)
            return
        with self.connect() as connection:
            connection.default_channel.queue_delete(self.queue)
            connection.default_channel.exchange_delete(self.queue)


done: list[Any] = []
go = threading.Event()
"""The task waits for it."""
go.set()


def note(*values: Any, **more: Any) -> None:
    """The task."""
    assert go.wait(60)
    done.append([*values, more] if more else list(values))


RABBITMQ = pytest.param(RABBITMQ_URL, marks=pytest.mark.services("rabbitmq"), id="rabbitmq")
REDIS = pytest.param(REDIS_URL, marks=pytest.mark.services("redis"), id="redis")
at_redis = pytest.mark.parametrize("old", [REDIS], indirect=True)
Run = Callable[..., list[dict[str, Any]]]


@pytest.fixture(params=[RABBITMQ, REDIS])
def old(request: pytest.FixtureRequest) -> Iterator[OldBroker]:
    """Each broker in turn."""
    made = OldBroker(request.param)
    done.clear()
    transport_module._declared.clear()
    yield made
    made.remove()


@pytest.fixture
def drain(old: OldBroker, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the command in this process until nothing waits; what it has said, in objects."""

    def run(*arguments: str, **options: Any) -> list[dict[str, Any]]:
        capsys.readouterr()
        name, *given = old.arguments(**options)
        call_command(name, *given, "--once", "--json", *arguments)
        return said(capsys)

    return run


def said(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    """What a command has said since the last time."""
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]
