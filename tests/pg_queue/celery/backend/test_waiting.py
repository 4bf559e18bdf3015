"""Waiting for results: soon, many at a time, whatever becomes of the sessions."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest
from celery import states, uuid
from celery.exceptions import TimeoutError
from celery.result import AsyncResult, GroupResult

from pg_queue.celery.backend import DownbeatBackend, ear
from pg_queue.celery.backend.address import LISTENER_NAME, NAME
from pg_queue.celery.backend.rows import channel_of, payload_of, slot_of
from pg_queue.errors import DirectConnectionRequired
from tests.pg_queue.celery.backend.conftest import MakeApp
from tests.processes import ProcessDatabase


@pytest.fixture
def only_by_notify(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody looks by himself: what is not heard of is waited for in vain."""
    monkeypatch.setattr(ear, "LOOK_SECONDS", 600.0)


@contextmanager
def waiting(app: Any, task_id: str, **options: Any) -> Iterator[Any]:
    """Somebody waits in a thread, by a session that listens already; the future of what it gets."""
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(AsyncResult(task_id, app=app).get, **{"timeout": 20, **options})
        until(lambda: sessions(app, LISTENER_NAME) and task_id in app.backend.result_consumer._ear._looked_for)
        yield future


def until(is_so: Any, seconds: float = 20) -> None:
    """Wait for something that another thread does."""
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def sessions(app: Any, name: str) -> list[int]:
    """The server's processes of the sessions of this name, in this app's database."""
    with psycopg.connect(app.backend.url, autocommit=True) as session:
        rows = session.execute(
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND application_name = %s", [name]
        )
        return [row[0] for row in rows]


def end_sessions(app: Any, name: str) -> None:
    """As an administrator or a restart would."""
    pids = sessions(app, name)
    assert pids
    with psycopg.connect(app.backend.url, autocommit=True) as session:
        for pid in pids:
            session.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])


@pytest.mark.usefixtures("only_by_notify")
def test_who_waits_is_woken_by_what_another_process_stores(app: Any, make_app: MakeApp, task_id: str) -> None:
    with waiting(app, task_id) as future:
        stored_at = time.monotonic()
        make_app().backend.mark_as_done(task_id, 42)

        assert future.result(timeout=10) == 42
    assert time.monotonic() - stored_at < 5


@pytest.mark.usefixtures("only_by_notify")
def test_no_result_is_missed_that_is_stored_while_somebody_begins_to_wait(app: Any, make_app: MakeApp) -> None:
    worker = make_app()
    task_ids = [uuid() for _ in range(60)]

    def store() -> None:
        for task_id in task_ids:
            worker.backend.mark_as_done(task_id, task_id)

    storing = threading.Thread(target=store)
    storing.start()
    got = [AsyncResult(task_id, app=app).get(timeout=15) for task_id in task_ids]
    storing.join()

    assert got == task_ids


def in_another_slot(than: str) -> str:
    """A fresh id whose result nobody listens for yet."""
    return next(one for one in iter(uuid, "") if slot_of(payload_of("", one)) != slot_of(payload_of("", than)))


@pytest.mark.usefixtures("only_by_notify")
def test_a_result_that_is_stored_just_before_the_ear_listens_is_found(
    app: Any, make_app: MakeApp, task_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker, late, listen = make_app(), in_another_slot(task_id), ear.listen

    def store_and_listen(*arguments: Any) -> None:
        worker.backend.mark_as_done(late, "nobody was notified")
        listen(*arguments)

    with waiting(app, task_id) as future:
        monkeypatch.setattr(ear, "listen", store_and_listen)

        assert AsyncResult(late, app=app).get(timeout=10) == "nobody was notified"
        worker.backend.mark_as_done(task_id, 1)
        assert future.result(timeout=10) == 1


@pytest.mark.usefixtures("only_by_notify")
def test_a_result_whose_transaction_is_open_when_the_ear_begins_to_listen_is_found(
    app: Any, make_app: MakeApp, task_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker, late = make_app(), in_another_slot(task_id)
    with waiting(app, task_id) as future, ThreadPoolExecutor(1) as pool:
        with worker.backend.address.connect() as session, session.transaction():
            with monkeypatch.context() as patch:
                patch.setattr(worker.backend.rows, "_sessions", SimpleNamespace(session=lambda: nullcontext(session)))
                worker.backend.mark_as_done(late, "committed late")
            other = pool.submit(AsyncResult(late, app=app).get, timeout=20)
            until(lambda: waits_for_a_lock(app))
        assert other.result(timeout=10) == "committed late"
        worker.backend.mark_as_done(task_id, 1)
        assert future.result(timeout=10) == 1


def waits_for_a_lock(app: Any) -> bool:
    with psycopg.connect(app.backend.url, autocommit=True) as session:
        row = session.execute(
            "SELECT count(*) FROM pg_locks AS l JOIN pg_stat_activity AS a USING (pid) WHERE NOT l.granted AND"
            " l.locktype = 'advisory' AND a.application_name = %s AND a.datname = current_database()",
            [LISTENER_NAME],
        ).fetchone()
    return row != (0,)


@pytest.mark.usefixtures("only_by_notify")
def test_any_number_of_threads_wait_by_one_session(app: Any, make_app: MakeApp) -> None:
    worker, task_ids = make_app(), [uuid() for _ in range(40)]
    with ThreadPoolExecutor(len(task_ids)) as pool:
        futures = [pool.submit(AsyncResult(task_id, app=app).get, timeout=20) for task_id in task_ids]
        until(lambda: app.backend.result_consumer._ear._looked_for == set(task_ids))
        assert len(sessions(app, LISTENER_NAME)) == 1
        for task_id in task_ids:
            worker.backend.mark_as_done(task_id, task_id)

        assert [future.result(timeout=20) for future in futures] == task_ids
    assert not app.backend.result_consumer._awaited, "nobody is waited for any more"


def test_nobody_is_notified_unless_somebody_waits(
    app: Any, make_app: MakeApp, results_database: ProcessDatabase, task_id: str
) -> None:
    worker, alone = make_app(), uuid()
    with results_database.connect() as spy:
        spy.execute(f"LISTEN {channel_of(slot_of(payload_of('', alone)))}")
        spy.execute(f"LISTEN {channel_of(slot_of(payload_of('', task_id)))}")
        worker.backend.mark_as_done(alone, 1)
        with waiting(app, task_id) as future:
            worker.backend.mark_as_done(task_id, 2)
            assert future.result(timeout=10) == 2

        assert [notice.payload for notice in spy.notifies(timeout=1, stop_after=1)] == [f" {task_id}"]


def test_what_has_ended_already_is_told_without_listening(app: Any, task_id: str) -> None:
    app.backend.mark_as_done(task_id, 1)

    assert AsyncResult(task_id, app=app).get(timeout=5) == 1
    assert sessions(app, LISTENER_NAME) == []


@pytest.mark.parametrize("timeout", [0, 0.2])
def test_patience_has_an_end(app: Any, task_id: str, timeout: float) -> None:
    began_at = time.monotonic()

    with pytest.raises(TimeoutError):
        AsyncResult(task_id, app=app).get(timeout=timeout)

    assert timeout <= time.monotonic() - began_at < timeout + 0.7, "not a whole interval later"


@pytest.mark.usefixtures("only_by_notify")
def test_progress_is_told_while_somebody_waits(app: Any, make_app: MakeApp, task_id: str) -> None:
    worker, heard = make_app(), []
    with waiting(app, task_id, on_message=heard.append) as future:
        worker.backend.store_result(task_id, {"done": 1}, "PROGRESS")
        until(lambda: "PROGRESS" in {meta["status"] for meta in heard})
        worker.backend.mark_as_done(task_id, 9)

        assert future.result(timeout=10) == 9
    assert [meta["status"] for meta in heard] == ["PROGRESS", states.SUCCESS]


@pytest.mark.usefixtures("only_by_notify")
def test_a_groups_results_come_as_they_end_and_are_joined_in_order(app: Any, make_app: MakeApp) -> None:
    worker, members = make_app(), [AsyncResult(uuid(), app=app) for _ in range(4)]
    group = GroupResult(uuid(), members, app=app)
    worker.backend.mark_as_done(members[2].id, 2)
    seen = []

    def store_the_others() -> None:
        for number in (3, 0, 1):
            until(lambda number=number: len(seen) == {3: 1, 0: 2, 1: 3}[number])
            worker.backend.mark_as_done(members[number].id, number)

    storing = threading.Thread(target=store_the_others)
    storing.start()
    for task_id, meta in group.iter_native(timeout=20):
        seen.append((task_id, meta["result"]))
    storing.join()

    assert seen == [(members[number].id, number) for number in (2, 3, 0, 1)]
    assert group.join(timeout=5) == group.join_native(timeout=5) == [0, 1, 2, 3]
    assert GroupResult(uuid(), [], app=app).join_native(timeout=5) == []


def test_a_callback_is_called_when_somebody_waits(app: Any, make_app: MakeApp, task_id: str) -> None:
    called: list[str] = []
    first = AsyncResult(task_id, app=app)
    first.then(lambda result: called.append(result.id))
    with waiting(app, task_id) as future:
        make_app().backend.mark_as_done(task_id, 1)
        assert future.result(timeout=10) == 1

    assert called == [task_id]


def test_a_listening_session_that_was_ended_is_opened_again(
    app: Any, make_app: MakeApp, task_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ear, "RECONNECT_SECONDS", 0.1)
    monkeypatch.setattr(ear, "POLL_SECONDS", 0.1)
    with waiting(app, task_id) as future:
        (before,) = sessions(app, LISTENER_NAME)
        end_sessions(app, LISTENER_NAME)
        until(lambda: sessions(app, LISTENER_NAME) not in ([], [before]))
        make_app().backend.mark_as_done(task_id, 1)

        assert future.result(timeout=10) == 1


def test_without_a_session_that_may_listen_results_are_polled(
    app: Any, make_app: MakeApp, task_id: str, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse() -> Any:
        raise DirectConnectionRequired("a proxy shares sessions")

    app.backend.result_consumer._ear._connect = refuse
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(AsyncResult(task_id, app=app).get, timeout=20)
        until(lambda: "results_listen_refused" in caplog.text)
        make_app().backend.mark_as_done(task_id, 1)

        assert future.result(timeout=10) == 1


def test_results_are_stored_and_read_by_new_sessions_after_the_old_ones_were_ended(app: Any, task_id: str) -> None:
    app.backend.mark_as_started(task_id)
    end_sessions(app, NAME)
    app.backend.mark_as_done(task_id, 1)
    end_sessions(app, NAME)

    assert AsyncResult(task_id, app=app).get(timeout=5) == 1


def test_how_often_a_lost_connection_is_tried_again_is_the_projects_to_say(make_app: MakeApp, task_id: str) -> None:
    policy = {"max_retries": 2, "interval_start": 0, "interval_step": 0}
    app = make_app(result_backend_transport_options={"retry_policy": policy})
    tries = []

    def refuse() -> Any:
        tries.append(1)
        raise psycopg.OperationalError("the server is away")

    app.backend.sessions._connect = refuse

    with pytest.raises(psycopg.OperationalError, match="away"):
        app.backend.mark_as_done(task_id, 1)
    assert len(tries) == 3


@pytest.mark.usefixtures("only_by_notify")
def test_a_forked_child_has_sessions_and_an_ear_of_its_own(app: Any, make_app: MakeApp, task_id: str) -> None:
    other = uuid()
    with waiting(app, task_id) as future:
        child = os.fork()
        if child == 0:  # as a prefork worker's child, whose parent has used the backend
            try:
                app.backend.result_consumer._after_fork()
                app.backend.mark_as_done(other, "begun")
                answer = AsyncResult(f"{other} 2", app=app).get(timeout=15)
                app.backend.mark_as_done(f"{other} 3", answer)
            finally:
                os.kill(os.getpid(), signal.SIGKILL)
        assert AsyncResult(other, app=app).get(timeout=15) == "begun"
        make_app().backend.mark_as_done(f"{other} 2", "heard")
        assert AsyncResult(f"{other} 3", app=app).get(timeout=15) == "heard"
        os.waitpid(child, 0)
        make_app().backend.mark_as_done(task_id, "the parent hears on")

        assert future.result(timeout=10) == "the parent hears on"


def test_a_result_that_cannot_be_read_is_its_own_waiters_error(make_app: MakeApp) -> None:
    app, pickling = make_app(), make_app(result_serializer="pickle", result_accept_content=["pickle"])
    bad, good = uuid(), uuid()
    with ThreadPoolExecutor(2) as pool:
        futures = {one: pool.submit(AsyncResult(one, app=app).get, timeout=20) for one in (bad, good)}
        until(lambda: app.backend.result_consumer._ear._looked_for == {bad, good})
        pickling.backend.mark_as_done(bad, 1)
        with pytest.raises(Exception, match="pickle"):
            futures[bad].result(timeout=10)
        make_app().backend.mark_as_done(good, 2)

        assert futures[good].result(timeout=10) == 2


GREEN = """
from gevent import monkey
monkey.patch_all()
import gevent, sys
from celery import Celery
from celery.result import AsyncResult
from pg_queue.celery.backend import ear
ear.LOOK_SECONDS = 600.0
app = Celery("green", broker="memory://")
app.conf.result_backend = sys.argv[1]
ticks = []
gevent.spawn(lambda: [(ticks.append(1), gevent.sleep(0.01)) for _ in iter(int, 1)])
names = [f"green {number}" for number in range(100)]
waiting = [gevent.spawn(AsyncResult(name, app=app).get, timeout=30) for name in names]
while len(app.backend.result_consumer._ear._looked_for) < len(names):
    gevent.sleep(0.01)
ticks.clear()
gevent.joinall([gevent.spawn(app.backend.mark_as_done, name, name) for name in names], raise_error=True)
gevent.joinall(waiting, raise_error=True)
print([one.value for one in waiting] == names, len(ticks) > 2)
"""


def test_greenlets_wait_and_store_without_holding_up_each_other(results_database: ProcessDatabase) -> None:
    pytest.importorskip("gevent")
    command = [sys.executable, "-c", GREEN, f"downbeat+{results_database.url}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)

    assert done.stdout == "True True\n", done.stderr


def test_threads_share_one_backend(app: Any) -> None:
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(lambda: app.backend).result() is app.backend
    assert isinstance(app.backend, DownbeatBackend)
