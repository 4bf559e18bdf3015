"""Messages of Celery's, moved from a real broker: what they say, what is told apart, what is left."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from celery import Celery
from celery.contrib.testing.worker import start_worker
from celery.signals import before_task_publish
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import connection as database
from kombu import Connection

from pg_queue.celery import draining
from pg_queue.celery.draining import BrokerUnavailable
from pg_queue.celery.draining.rabbitmq import RabbitSource
from pg_queue.celery.draining.redis import RedisSource
from pg_queue.models import Message
from pg_queue.process import ExitCode
from tests.pg_queue.celery.draining.conftest import OldBroker, Run, at_redis, done, go, note, said

pytestmark = [
    pytest.mark.django_db(transaction=True, available_apps=["pg_queue"]),
    pytest.mark.postgresql("the transport is on PostgreSQL alone"),
]
LATER = datetime(2031, 5, 6, 7, 8, 9, tzinfo=UTC)


@contextmanager
def published() -> Iterator[list[dict[str, Any]]]:
    """What Celery publishes inside of the block."""
    seen: list[dict[str, Any]] = []

    def note(body: Any = None, headers: Any = None, properties: Any = None, **_: Any) -> None:
        seen.append(json.loads(json.dumps({"body": body, "headers": headers, "properties": properties}, default=str)))

    before_task_publish.connect(note)
    yield seen
    before_task_publish.disconnect(note)


@contextmanager
def working(app: Celery) -> Iterator[None]:
    """A stock worker, in a thread, while the block lasts."""
    with start_worker(app, pool="solo", perform_ping_check=False, shutdown_timeout=30, loglevel="error"):
        yield


def until(happens: Callable[[], Any], seconds: float = 30) -> None:
    """Wait until it is true."""
    deadline = time.monotonic() + seconds
    while not happens():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_message_says_the_same_as_at_the_old_broker(old: OldBroker, drain: Run) -> None:
    with published() as sent:
        task_id = old.send(
            1,
            "zwei",
            {"drei": [None, 0.5]},
            kwargs={"naïve": "ü"},
            expires=LATER,
            headers={"tenant": "acme", "shards": [1, 2]},
            link=old.app.signature("old.note", args=["then"]),
            time_limit=30,
            retries=2,
            group_id="5b4a3a8e-9e2a-4f0e-a3ea-6d6d6a4a0f3b",
        )
    assert drain()[-1] == {"event": "stopped", "moved": 1, "known": 0, "left": 0}

    assert str(Message.objects.get().id) == task_id
    with Connection("downbeat://") as connection:
        message = connection.default_channel.basic_get(old.queue)
        (was,) = sent
        assert json.loads(message.body) == was["body"]
        headers = dict(message.headers)
        assert datetime.fromisoformat(headers.pop("expires")) == datetime.fromisoformat(was["headers"].pop("expires"))
        unsaid: dict[str, Any] = {"stamped_headers": None, "stamps": {}}
        assert {**unsaid, **headers} == {**unsaid, **was["headers"]}
        assert message.properties["correlation_id"] == was["properties"]["correlation_id"] == task_id
        assert message.delivery_info["routing_key"] == old.queue
        message.ack()
    assert (old.depth(), old.held()) == (0, 0)


def test_an_eta_is_waited_for_in_the_database(old: OldBroker, drain: Run) -> None:
    old.send(eta=LATER)
    old.send()
    drain()
    now, later = Message.objects.order_by("run_after")
    assert later.run_after == LATER
    assert now.run_after < datetime.now(UTC) + timedelta(minutes=1)


def test_priorities_keep_their_order(old: OldBroker, drain: Run) -> None:
    for priority in (0, 3, 6, 9):
        old.send(priority, priority=priority)
    old.send("none")
    drain()
    rows = {message.args[0]: message.priority for message in Message.objects.all()}
    if old.is_redis:  # where the smaller is the first, and 0 is none
        assert rows == {0: 5, 3: 3, 6: 2, 9: 1, "none": 5}
    else:  # where 0 is none, too
        assert rows == {0: 5, 3: 4, 6: 7, 9: 10, "none": 5}


def test_a_stock_worker_on_postgresql_runs_what_was_moved(old: OldBroker, drain: Run) -> None:
    old.send(1, kwargs={"two": 3})
    old.send("pickled", serializer="pickle", compression="zlib")
    drain()
    new = Celery("new", broker="downbeat://", set_as_current=False, fixups=[])
    new.conf.update(
        broker_transport_options={"polling_interval": 0.1},
        accept_content=["json", "pickle"],
        task_default_queue=old.queue,
        task_ignore_result=True,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
    )
    new.task(name="old.note", shared=False)(note)
    with working(new):
        until(lambda: len(done) == 2)
    assert sorted(done, key=str) == [["pickled"], [1, {"two": 3}]]
    assert not Message.objects.exists()


def test_what_is_handed_over_again_after_the_commit_is_known(
    old: OldBroker, drain: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = old.send_many(12)
    kind = RedisSource if old.is_redis else RabbitSource

    def vanish(self: Any, deliveries: Any) -> None:
        raise BrokerUnavailable("gone just before the acknowledgement")

    with monkeypatch.context() as patch:
        patch.setattr(kind, "acknowledge", vanish)
        with pytest.raises(CommandError, match="gone just before") as raised:
            drain("--batch", "8")
    assert raised.value.returncode == ExitCode.DATABASE
    assert (Message.objects.count(), old.depth()) == (8, 12)

    assert drain("--batch", "5")[-1] == {"event": "stopped", "moved": 4, "known": 8, "left": 0}
    assert {str(message.id) for message in Message.objects.all()} == ids
    assert (old.depth(), old.held()) == (0, 0)


def test_a_retry_and_a_second_message_under_one_id_go_through(old: OldBroker, drain: Run) -> None:
    task_id = old.send("first")
    assert drain()[-1]["moved"] == 1
    old.send("first", task_id=task_id, retries=1)
    old.send("first", task_id=task_id)
    old.send("first", task_id=task_id)
    assert drain()[-1] == {"event": "stopped", "moved": 3, "known": 0, "left": 0}
    with Connection("downbeat://") as connection:
        got = list(iter(lambda: connection.default_channel.basic_get(old.queue), None))
        assert sorted((message.headers["id"], message.headers["retries"]) for message in got) == [
            (task_id, 0),
            (task_id, 0),
            (task_id, 0),
            (task_id, 1),
        ]


def test_what_cannot_be_moved_is_left_and_holds_up_nothing(
    old: OldBroker,
    drain: Run,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(draining, "app_options", lambda: {"max_message_bytes": 10_000})
    old.publish({"hello": "world"})
    old.publish("?", content_type="application/x-secret", content_encoding="utf-8", headers={"task": "a", "id": "b"})
    old.send("x" * 20_000)
    old.send(name="t" * 300)
    ids = old.send_many(20)
    with caplog.at_level(logging.WARNING), pytest.raises(CommandError, match=f"{old.queue}: 4") as raised:
        drain("--batch=3")
    assert raised.value.returncode == ExitCode.ERROR
    assert said(capsys)[-1] == {"event": "stopped", "moved": 20, "known": 0, "left": 4}
    told = "\n".join(record.getMessage() for record in caplog.records if "draining.left" in record.getMessage())
    for reason in ("protocol 2", "application/x-secret", "max_message_bytes", "task: expected a text of 1 to 255"):
        assert told.count(reason) == 1, told
    assert {str(message.id) for message in Message.objects.all()} == ids
    assert (old.depth(), old.held()) == (4, 0)


def test_a_dry_run_tells_what_waits_and_takes_nothing(
    old: OldBroker, drain: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    old.send_many(3)
    total = {"event": "total", "waiting": 3, **({"held": 0} if old.is_redis else {})}
    assert drain("--dry-run") == [{"event": "queue", "queue": old.queue, "waiting": 3}, total]
    assert (old.depth(), Message.objects.count()) == (3, 0)


def open_when_moved() -> None:
    """Let the old worker go on once the first have arrived here."""
    try:
        until(Message.objects.exists)
    finally:
        go.set()
        database.close()


def test_workers_of_the_old_broker_go_on_meanwhile(old: OldBroker, drain: Run) -> None:
    with working(old.app):
        old.send("begin")
        until(lambda: done)
        go.clear()  # else the worker might be done before the command has begun
        opener = threading.Thread(target=open_when_moved)
        opener.start()
        old.send_many(150)
        drain("--batch=10")
        opener.join()
        until(lambda: old.depth() + old.held() == 0)
    moved = [message.args[0] for message in Message.objects.all()]
    ran = [values[0] for values in done[1:]]
    assert sorted([*moved, *ran]) == list(range(150))
    assert moved


def test_a_value_that_the_database_refuses_is_left_alone(old: OldBroker, drain: Run) -> None:
    """A trigger stands for whatever a database may have against a value."""
    with database.cursor() as cursor:
        cursor.execute(
            "CREATE FUNCTION refuse_odd() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
            " IF NEW.args ->> 0 = '3' THEN RAISE EXCEPTION 'not this one' USING ERRCODE = '22023'; END IF;"
            " RETURN NEW; END $$;"
            "CREATE TRIGGER refuse_odd BEFORE INSERT ON pg_queue_message FOR EACH ROW EXECUTE FUNCTION refuse_odd()"
        )
    try:
        old.send_many(6)
        with pytest.raises(CommandError, match=f"{old.queue}: 1"):
            drain()
        assert sorted(message.args[0] for message in Message.objects.all()) == [0, 1, 2, 4, 5]
        assert (old.depth(), old.held()) == (1, 0)
    finally:
        with database.cursor() as cursor:
            cursor.execute("DROP TRIGGER refuse_odd ON pg_queue_message; DROP FUNCTION refuse_odd()")


@at_redis
def test_what_a_vanished_worker_holds_at_redis_is_drained_after_the_visibility_timeout(
    old: OldBroker, drain: Run
) -> None:
    old.send("held")
    holder = old.connect()
    channel: Any = holder.default_channel
    message = channel.basic_get(old.queue)
    channel.qos._delivered.clear()  # it is killed, so it gives nothing back
    holder.release()
    assert message is not None
    told = drain()
    assert told[1] == {"event": "drained", "moved": 0, "known": 0, "left": 0, "waiting": 0, "held": 1}
    time.sleep(0.2)
    assert drain(visibility_timeout=0.1)[-1]["moved"] == 1
    assert (old.depth(), old.held()) == (0, 0)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--queue=q"], "--from: expected the URL of the old broker"),
        (["--from=sqs://", "--queue=q"], "--from: expected the URL of a broker"),
        (["--from=redis://127.0.0.1", "--to=nowhere"], "--to: expected a store of"),
        (["--from=redis://127.0.0.1", "--batch=0"], "--batch: expected a whole number"),
        (["--from=redis://127.0.0.1", "--transport-option=x"], "--transport-option: expected NAME=VALUE"),
    ],
)
def test_what_makes_no_sense_is_refused(arguments: list[str], told: str) -> None:
    with pytest.raises(CommandError, match=told) as raised:
        call_command("drain_broker", *arguments)
    assert raised.value.returncode == ExitCode.USAGE


@pytest.mark.services("rabbitmq")
def test_a_queue_that_the_broker_has_not_is_refused() -> None:
    from tests.services import RABBITMQ_URL

    with pytest.raises(CommandError, match="--queue: expected queues that the broker has, got: 'downbeat_no_queue'"):
        call_command("drain_broker", f"--from={RABBITMQ_URL}", "--queue=downbeat_no_queue")


def test_a_broker_that_does_not_answer_is_told_without_its_password() -> None:
    with pytest.raises(CommandError) as raised:
        call_command("drain_broker", "--from=redis://me:secret@127.0.0.1:1/0", "--queue=q", "--once")
    assert raised.value.returncode == ExitCode.DATABASE
    assert "secret" not in str(raised.value)
