"""What is kept of a task, and what comes back."""

from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery, states, uuid
from celery.exceptions import ImproperlyConfigured, TaskRevokedError
from celery.result import AsyncResult, GroupResult
from kombu.exceptions import ContentDisallowed

from pg_queue.celery.backend import DownbeatBackend
from pg_queue.celery.backend.errors import ResultTooLarge
from tests.pg_queue.celery.backend.conftest import MakeApp
from tests.processes import ProcessDatabase


class Particular(Exception):
    """An error of the project's own, with two arguments."""


def request(**fields: Any) -> Any:
    """A task's request as a worker has it."""
    known = {
        "id": uuid(),
        "group": None,
        "chord": None,
        "chain": None,
        "errbacks": None,
        "children": [],
        "parent_id": None,
    }
    return SimpleNamespace(**{**known, "ignore_result": False, **fields})


def test_of_an_unknown_task_nothing_is_known(app: Any, task_id: str) -> None:
    result = AsyncResult(task_id, app=app)

    assert (result.state, result.result, result.traceback) == (states.PENDING, None, None)
    assert not result.exists()


def test_each_state_is_seen_with_what_the_task_says_of_it(app: Any, task_id: str) -> None:
    result = AsyncResult(task_id, app=app)
    for state, told in [(states.STARTED, {"pid": 7, "hostname": "w@h"}), ("PROGRESS", {"done": 3, "of": 9})]:
        app.backend.store_result(task_id, told, state)
        assert (result.state, result.info, result.ready()) == (state, told, False)
        assert result.exists()

    app.backend.mark_as_done(task_id, {"total": [1, 2.5, "é"]}, request())

    assert (result.state, result.result, result.successful()) == (states.SUCCESS, {"total": [1, 2.5, "é"]}, True)
    assert result.date_done is not None


def test_a_success_is_final(app: Any, task_id: str) -> None:
    app.backend.mark_as_done(task_id, 1)
    app.backend.mark_as_failure(task_id, ValueError("a second execution failed"))
    app.backend.store_result(task_id, None, states.STARTED)

    assert AsyncResult(task_id, app=app).get(timeout=5) == 1


def test_a_failure_gives_way_to_what_a_later_execution_says(app: Any, task_id: str) -> None:
    app.backend.mark_as_failure(task_id, ValueError("first"))
    app.backend.mark_as_done(task_id, 2)

    assert AsyncResult(task_id, app=app).get(timeout=5) == 2


def test_an_error_is_raised_again_as_what_it_was(app: Any, task_id: str) -> None:
    app.backend.mark_as_failure(task_id, Particular("no", 7), traceback="Traceback: line 1")
    result = AsyncResult(task_id, app=app)

    with pytest.raises(Particular) as caught:
        result.get(timeout=5)
    assert caught.value.args == ("no", 7)
    assert result.traceback == "Traceback: line 1"
    assert isinstance(result.get(timeout=5, propagate=False), Particular)


def test_an_error_of_a_class_that_is_not_here_keeps_its_name(app: Any, task_id: str) -> None:
    gone = type("Gone", (Exception,), {"__module__": "nowhere.at.all"})
    app.backend.mark_as_failure(task_id, gone("lost"))

    with pytest.raises(Exception, match="lost") as caught:
        AsyncResult(task_id, app=app).get(timeout=5)
    assert type(caught.value).__name__ == "Gone"


def test_a_retry_tells_why_and_is_no_end(app: Any, task_id: str) -> None:
    app.backend.mark_as_retry(task_id, KeyError("later"))
    result = AsyncResult(task_id, app=app)

    assert (result.state, result.ready()) == (states.RETRY, False)
    assert isinstance(result.result, KeyError)


def test_a_revoked_task_raises_that_it_was(app: Any, task_id: str) -> None:
    app.backend.mark_as_revoked(task_id, "terminated", request())

    with pytest.raises(TaskRevokedError, match="terminated"):
        AsyncResult(task_id, app=app).get(timeout=5)


def test_what_is_ignored_is_not_kept(app: Any, task_id: str) -> None:
    app.backend.mark_as_done(task_id, 5, request(ignore_result=True))

    assert not AsyncResult(task_id, app=app).exists()


def test_an_extended_result_tells_of_its_request(make_app: MakeApp, task_id: str) -> None:
    app = make_app(result_extended=True)
    asked = request(
        task="proj.add", args=[2, 3], kwargs={"exact": True}, hostname="w1@host", retries=2,
        delivery_info={"routing_key": "fast"}, parent_id="parent", group="group",
    )  # fmt: skip
    app.backend.mark_as_done(task_id, 5, asked)
    result: Any = AsyncResult(task_id, app=app)

    assert (result.name, result.args, result.kwargs) == ("proj.add", [2, 3], {"exact": True})
    assert (result.worker, result.retries, result.queue) == ("w1@host", 2, "fast")
    meta = app.backend.get_task_meta(task_id)
    assert (meta["parent_id"], meta["group_id"]) == ("parent", "group")


def test_children_are_results_again(app: Any, task_id: str) -> None:
    child = AsyncResult(uuid(), app=app)
    app.backend.mark_as_done(task_id, 1, request(children=[child]))
    app.backend.mark_as_done(child.id, 2)
    result = AsyncResult(task_id, app=app)

    assert result.children == [child]
    assert [value for _, value in result.collect(timeout=5)] == [1, 2]


def test_what_is_forgotten_is_unknown(app: Any, task_id: str) -> None:
    app.backend.mark_as_done(task_id, 1)
    result = AsyncResult(task_id, app=app)
    assert result.get(timeout=5) == 1

    result.forget()

    assert AsyncResult(task_id, app=app).state == states.PENDING


@pytest.mark.parametrize("serializer", ["json", "pickle", "yaml"])
def test_whatever_serializer_and_compression_it_comes_back_the_same(
    make_app: MakeApp, task_id: str, serializer: str
) -> None:
    pytest.importorskip("yaml") if serializer == "yaml" else None
    app = make_app(
        result_serializer=serializer, result_compression="gzip", result_accept_content=["json", "pickle", "yaml"]
    )
    value = {"numbers": list(range(500)), "text": "\0 is a character too"}
    app.backend.mark_as_done(task_id, value)
    failed = uuid()
    app.backend.mark_as_failure(failed, Particular("why", 1))

    reader = make_app(result_accept_content=["json", "pickle", "yaml"])
    assert AsyncResult(task_id, app=reader).get(timeout=5) == value
    assert isinstance(AsyncResult(failed, app=app).get(timeout=5, propagate=False), Particular)


def test_a_serializer_that_is_not_accepted_is_refused(make_app: MakeApp, task_id: str) -> None:
    make_app(result_serializer="pickle", result_accept_content=["pickle"]).backend.mark_as_done(task_id, 1)

    with pytest.raises(ContentDisallowed):
        AsyncResult(task_id, app=make_app(result_accept_content=["json"])).get(timeout=5)


def test_a_result_above_the_bound_is_refused_with_both_sizes(make_app: MakeApp, task_id: str) -> None:
    app = make_app(query="max_result_bytes=1000")

    with pytest.raises(ResultTooLarge, match=r"expected at most 1000 bytes.*got: [12]\d\d\d"):
        app.backend.mark_as_done(task_id, "x" * 1000)
    assert not AsyncResult(task_id, app=app).exists()


def test_a_failure_above_the_bound_is_told_shortly(make_app: MakeApp, task_id: str) -> None:
    app = make_app(query="max_result_bytes=1000")
    app.backend.mark_as_failure(task_id, Particular("x" * 2000), traceback="y" * 2000)

    with pytest.raises(ResultTooLarge, match=f"task {task_id} raised Particular"):
        AsyncResult(task_id, app=app).get(timeout=5)


@pytest.mark.parametrize("task_id", ["", "x" * 256, "a\0b"])
def test_an_id_that_no_row_can_have_is_refused(app: Any, task_id: str) -> None:
    with pytest.raises(ValueError, match="task_id: expected 1 to 255 characters"):
        app.backend.mark_as_done(task_id, 1)


def test_any_other_text_is_an_id(app: Any) -> None:
    app.backend.mark_as_done("my own 'id' %s ☃", 1)

    assert AsyncResult("my own 'id' %s ☃", app=app).get(timeout=5) == 1


def test_namespaces_see_nothing_of_each_other(make_app: MakeApp, task_id: str) -> None:
    one, other = make_app(query="namespace=one"), make_app(query="namespace=other")
    one.backend.mark_as_done(task_id, "one's")

    assert AsyncResult(task_id, app=other).state == states.PENDING
    other.backend.mark_as_done(task_id, "other's")
    assert AsyncResult(task_id, app=one).get(timeout=5) == "one's"
    AsyncResult(task_id, app=one).forget()
    assert AsyncResult(task_id, app=other).get(timeout=5) == "other's"


def expiry(database: ProcessDatabase, task_id: str) -> timedelta | None:
    """How long it is kept from now on; None: for ever."""
    with database.connect() as session:
        row = session.execute(
            "SELECT expires_at - now() FROM pg_queue_celeryresult WHERE task_id = %s", [task_id]
        ).fetchone()
    assert row is not None
    left: timedelta | None = row[0]
    return left


def test_a_result_is_kept_as_long_as_was_said(make_app: MakeApp, results_database: ProcessDatabase) -> None:
    app = make_app(result_expires=timedelta(hours=1), result_failure_expires=600)
    done, failed, running = uuid(), uuid(), uuid()
    app.backend.mark_as_done(done, 1)
    app.backend.mark_as_failure(failed, ValueError())
    app.backend.mark_as_started(running)

    left = [expiry(results_database, one) for one in (done, failed, running)]

    hour, ten_minutes = timedelta(hours=1), timedelta(minutes=10)
    assert left[0] is not None
    assert hour - timedelta(minutes=1) < left[0] <= hour
    assert left[1] is not None
    assert ten_minutes - timedelta(minutes=1) < left[1] <= ten_minutes
    assert left[2] is not None
    assert left[2] > timedelta(days=29), "what has not ended outlives any result"


@pytest.mark.parametrize("expires", [0, None])
def test_zero_and_none_keep_it_for_ever(
    make_app: MakeApp, results_database: ProcessDatabase, task_id: str, expires: int | None
) -> None:
    app = make_app(result_expires=expires)
    app.backend.mark_as_done(task_id, 1)

    assert expiry(results_database, task_id) is None


def test_what_is_past_its_time_is_unknown_at_once_and_gone_after_cleanup(
    make_app: MakeApp, results_database: ProcessDatabase, task_id: str
) -> None:
    app = make_app(result_expires=3600)
    kept = uuid()
    group = GroupResult(uuid(), [AsyncResult(task_id, app=app)], app=app)
    group.save()
    for one in (task_id, kept):
        app.backend.mark_as_done(one, 1)
    with results_database.connect() as session:
        session.execute("UPDATE pg_queue_celeryresult SET expires_at = now() WHERE task_id = %s", [task_id])
        session.execute("UPDATE pg_queue_celerygroup SET expires_at = now()")

        assert AsyncResult(task_id, app=app).state == states.PENDING
        assert GroupResult.restore(group.id, app=app) is None
        app.tasks["celery.backend_cleanup"]()
        rows = session.execute("SELECT task_id FROM pg_queue_celeryresult WHERE task_id IN (%s, %s)", [task_id, kept])
        assert rows.fetchall() == [(kept,)]
        assert session.execute("SELECT count(*) FROM pg_queue_celerygroup").fetchone() == (0,)


def test_an_id_that_is_used_again_after_its_time_has_a_result_of_its_own(
    make_app: MakeApp, results_database: ProcessDatabase, task_id: str
) -> None:
    app = make_app()
    app.backend.mark_as_done(task_id, "old")
    with results_database.connect() as session:
        session.execute("UPDATE pg_queue_celeryresult SET expires_at = now() WHERE task_id = %s", [task_id])
    app.backend.mark_as_failure(task_id, ValueError("new"))

    assert AsyncResult(task_id, app=app).state == states.FAILURE


def test_a_group_is_saved_restored_and_deleted_with_its_structure(app: Any) -> None:
    inner = GroupResult(uuid(), [AsyncResult(uuid(), app=app)], app=app)
    group = GroupResult(uuid(), [AsyncResult(uuid(), app=app), inner], app=app)
    group.save()

    restored = GroupResult.restore(group.id, app=app)

    assert restored == group
    assert restored.results[1].results == inner.results
    restored.delete()
    app.backend._cache.clear()
    assert GroupResult.restore(group.id, app=app) is None


def test_a_result_and_its_backend_can_be_pickled(app: Any, task_id: str) -> None:
    app.set_current()
    app.backend.mark_as_done(task_id, 3)
    result = AsyncResult(task_id, app=app)

    assert copy.copy(result).get(timeout=5) == 3
    other = pickle.loads(pickle.dumps(app.backend))
    assert (other.url, other.expires) == (app.backend.url, app.backend.expires)


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("downbeat://nowhere", r"expected an alias of PG_QUEUE\['STORES'\] \(default\), got: 'nowhere'"),
        ("downbeat:///path", "got: the path '/path'"),
        ("downbeat://?queue=x", "expected options among max_result_bytes, namespace, got: 'queue'"),
        ("downbeat://?namespace=a/b", "expected a namespace of"),
        ("downbeat+postgresql://h/d?max_result_bytes=-1", "expected max_result_bytes to be a whole number"),
        ("downbeat+postgresql://h/d?nonsense=1", "nonsense"),
        ("downbeat+redis://h/0", "got: the scheme 'redis'"),
    ],
)
def test_a_wrong_url_is_refused_with_what_was_expected(url: str, complaint: str) -> None:
    app = Celery("wrong", set_as_current=False)
    app.conf.result_backend = url

    with pytest.raises(ImproperlyConfigured, match=complaint):
        _ = app.backend


def test_parameters_of_libpq_in_the_url_are_the_sessions(make_app: MakeApp) -> None:
    app = make_app(query="options=-c%20synchronous_commit%3Doff&namespace=a&application_name=mine")

    with app.backend.sessions.session() as session:
        assert session.execute("SHOW synchronous_commit").fetchone() == ("off",)
        assert session.execute("SHOW application_name").fetchone() == ("mine",)
    assert app.backend.address.namespace == "a"


def test_outside_of_django_no_settings_are_needed_unless_the_url_asks_for_them(
    results_database: ProcessDatabase,
) -> None:
    program = """
import sys
from celery import Celery
from celery.result import AsyncResult
app = Celery("outside", broker="memory://")
app.conf.result_backend = sys.argv[1]
app.backend.mark_as_done("outside", 7)
from django.conf import settings
print(AsyncResult("outside", app=app).get(timeout=20), settings.configured)
"""
    environment = {name: value for name, value in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"}

    def run(url: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", program, url],
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    assert run(f"downbeat+{results_database.url}").stdout == "7 False\n"
    assert "result_backend: expected Django's settings for downbeat://, got: none" in run("downbeat://").stderr


def test_the_password_is_not_shown(make_app: MakeApp) -> None:
    app = Celery("shown", set_as_current=False)
    app.conf.result_backend = "downbeat+postgresql://me:secret@db.example/results"

    assert isinstance(app.backend, DownbeatBackend)
    assert "secret" not in app.backend.as_uri()
    assert "db.example" in app.backend.as_uri()
