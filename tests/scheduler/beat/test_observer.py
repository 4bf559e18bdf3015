"""The observer in this process: which messages are Beat's sends, and what becomes of them when the database fails."""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from celery import Celery

from scheduler.beat import recorder, sessions
from scheduler.beat.observer import Observer
from scheduler.beat.sends import Process
from scheduler.domain import BeatMode
from tests.processes import ProcessDatabase
from tests.scheduler.rows import Rows

BEATS = {"periodic_task_name": "hourly", "celery_beat_task": True}


@pytest.fixture
def app() -> Celery:
    """A Celery app whose messages go nowhere."""
    return Celery("tests", broker="memory://")


@pytest.fixture
def refusing(process_database: ProcessDatabase, monkeypatch: pytest.MonkeyPatch) -> list[Exception]:
    """What the database answers instead of a session, while there is something in it."""
    refusals: list[Exception] = []

    def connect(name: str, settings: dict[str, str]) -> sessions.Session:
        if refusals:
            raise refusals[0]
        return process_database.connect()

    monkeypatch.setattr(sessions, "direct_connection", connect)
    monkeypatch.setattr(recorder, "_RETRY_SECONDS", (0.01, 0.02))
    return refusals


@pytest.fixture
def observer(refusing: list[Exception]) -> Iterator[Observer]:
    """As a Beat process has it; its database is the test's own."""
    process = Process(id=uuid.uuid4(), host="host", process_id=1, scheduler="module:Class", mode=BeatMode.OBSERVE)
    found = Observer(process)
    yield found
    refusing.clear()
    found.stop()


def states(rows: Rows) -> list[tuple[str, str]]:
    found = rows.session.execute("SELECT beat_name, state FROM scheduler_beatsend ORDER BY id").fetchall()
    return [(send["beat_name"], send["state"]) for send in found]


def process_row(rows: Rows) -> dict[str, Any]:
    row = rows.session.execute("SELECT * FROM scheduler_beatprocess").fetchone()
    assert row is not None
    return row


def wait_until(is_true: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 60
    while not is_true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_beats_messages_are_its_sends_and_no_others(app: Celery, observer: Observer, rows: Rows) -> None:
    observer.start()
    app.send_task("echo", headers=BEATS)
    app.send_task("echo")
    app.send_task("echo", headers={"celery_beat_task": True})
    app.send_task("echo", headers=BEATS, retries=1)  # by a task that Beat's message started
    thread = threading.Thread(target=lambda: app.send_task("echo", headers=BEATS))
    thread.start()
    thread.join(60)
    with observer.suspended():
        app.send_task("echo", headers=BEATS)
    observer.stop()
    assert states(rows) == [("hourly", "sent"), ("echo", "sent")]
    assert (process_row(rows)["sends"], process_row(rows)["stopped_at"] is None) == (2, False)


def test_what_the_broker_refuses_has_failed_when_beat_sends_the_next(
    app: Celery, observer: Observer, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    observer.start()
    with monkeypatch.context() as patched:

        def refuse(*_: object, **__: object) -> None:
            raise ConnectionError("no broker")

        patched.setattr("kombu.messaging.Producer.publish", refuse)
        with pytest.raises(ConnectionError):
            app.send_task("echo", headers=BEATS)
    app.send_task("echo", headers={"periodic_task_name": "next"})
    observer.stop()
    assert states(rows) == [("hourly", "failed"), ("next", "sent")]
    assert (process_row(rows)["sends"], process_row(rows)["failed_sends"]) == (1, 1)


def test_what_is_under_way_when_the_process_ends_is_unknown(observer: Observer, rows: Rows) -> None:
    observer.start()
    observer.seen(headers={**BEATS, "id": "1"})
    observer.stop()
    assert states(rows) == [("hourly", "claimed")]


def test_sends_wait_for_a_database_that_does_not_answer_and_more_than_fit_are_counted(
    app: Celery, observer: Observer, rows: Rows, refusing: list[Exception], monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    monkeypatch.setattr(recorder, "MOST_SENDS", 3)
    refusing.append(psycopg.OperationalError("connection refused"))
    observer.start()
    for number in range(5):
        app.send_task("echo", headers={"periodic_task_name": f"entry {number}"})
    with caplog.at_level(logging.INFO, logger=recorder.__name__):
        wait_until(lambda: "beat.not_recording" in caplog.text)
        refusing.clear()
        wait_until(lambda: len(states(rows)) == 3)
    assert [name for name, _ in states(rows)] == ["entry 0", "entry 1", "entry 2"]
    observer.stop()
    assert (process_row(rows)["sends"], process_row(rows)["lost_sends"]) == (3, 2)
    assert caplog.text.count("beat.not_recording") == 1  # once a minute
    assert "connection refused" in caplog.text


def test_a_row_that_the_database_refuses_is_dropped_and_counted_and_the_others_are_recorded(
    app: Celery, observer: Observer, rows: Rows, refusing: list[Exception]
) -> None:
    refusing.append(psycopg.OperationalError("not yet"))
    observer.start()
    for name in ("first", "a NUL \x00 in it", "last"):
        app.send_task("echo", headers={"periodic_task_name": name})
    refusing.clear()
    wait_until(lambda: len(states(rows)) == 2)
    observer.stop()
    assert [name for name, _ in states(rows)] == ["first", "last"]
    assert (process_row(rows)["sends"], process_row(rows)["lost_sends"]) == (2, 1)


def test_a_send_without_a_mirror_does_not_wait_for_one_that_somebody_holds(
    app: Celery, observer: Observer, rows: Rows
) -> None:
    rows.add(firer="beat", beat_name="held")
    observer.start()
    with rows.database.connect(autocommit=False) as other:
        other.execute("SELECT FROM scheduler_pgperiodicschedule FOR UPDATE")
        app.send_task("echo", headers={"periodic_task_name": "held"})
        app.send_task("echo", headers={"periodic_task_name": "free"})
        wait_until(lambda: states(rows) == [("free", "sent")])
    wait_until(lambda: states(rows) == [("free", "sent"), ("held", "sent")])


def test_the_end_of_the_process_waits_for_no_database_for_long(
    app: Celery, observer: Observer, refusing: list[Exception], monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    monkeypatch.setattr(recorder, "FLUSH_SECONDS", 0.2)
    refusing.append(psycopg.OperationalError("connection refused"))
    observer.start()
    app.send_task("echo", headers=BEATS)
    observer.stop()
    assert "beat.sends_not_recorded count=1" in caplog.text
