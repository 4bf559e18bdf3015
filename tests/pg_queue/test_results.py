"""Asking for results: from the queue's own rows, and from a store elsewhere."""

from __future__ import annotations

import sys
import uuid
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.apps import apps
from django.db import OperationalError, connection

from pg_queue.api import (
    Configuration,
    Failure,
    MessageState,
    Result,
    ResultNotKept,
    ResultNotReady,
    ResultStore,
    ResultsUnavailable,
    TaskFailed,
    enqueue,
    get_result,
    get_results,
    result_store,
    store,
    task,
)
from pg_queue.checks import check_queue_settings
from pg_queue.domain import Death, Settlement, Success
from pg_queue.errors import ResultRefused
from pg_queue.reaper import all_duties, retain_results
from pg_queue.results.models import StoredResult
from pg_queue.settings import parse
from tests.contract.results.hammer import outcome
from tests.places import ALIAS, Place, connected

FAILURE = Failure(type="shop.errors.Empty", message="nothing left", traceback="Traceback …")


@task("test.results.kept")
def kept_task() -> None:
    """Keep what it returns."""


@task("test.results.forgotten", keep_result=False)
def forgotten_task() -> None:
    """Keep nothing."""


@pytest.fixture
def elsewhere(settings: Any, db: None) -> ResultStore:
    """A store beside the queue's own rows, in a table of the test's database: what is asked is the same anywhere."""
    settings.PG_QUEUE = {"RESULTS": {"DATABASE": "default", "CLEAR_AFTER_SECONDS": 60}}
    found = result_store()
    assert found is not None
    return found


def ended(task_name: str = "test.results.kept", outcome: Success | Death | None = None) -> uuid.UUID:
    """A message that has been run and settled."""
    message_id = enqueue(task_name)
    (claim,) = store().claim(queues=["default"], limit=1, lease=timedelta(seconds=60), worker="w")
    store().settle([Settlement(message_id=message_id, token=claim.token, outcome=outcome or Success())])
    return message_id


@pytest.mark.django_db
class TestInTheQueue:
    def test_a_message_is_followed_to_its_value(self) -> None:
        message_id = enqueue("test.results.kept")
        waiting = get_result(message_id)
        assert waiting is not None
        assert (waiting.state, waiting.attempts, waiting.finished_at) == (MessageState.WAITING, 0, None)
        with pytest.raises(ResultNotReady, match=r"expected one that has ended, got: waiting"):
            waiting.value_or_raise()
        (claim,) = store().claim(queues=["default"], limit=1, lease=timedelta(seconds=60), worker="w")
        store().settle([Settlement(message_id=message_id, token=claim.token, outcome=Success(value={"n": 1}))])
        found = get_result(message_id)
        assert found is not None
        assert (found.state, found.attempts, found.value_or_raise()) == (MessageState.SUCCEEDED, 1, {"n": 1})
        assert found.finished_at is not None

    def test_asking_for_a_failed_ones_value_raises_the_tasks_error(self) -> None:
        result = get_result(ended(outcome=Death(failure=FAILURE)))
        assert result is not None
        with pytest.raises(TaskFailed, match=r"^shop\.errors\.Empty: nothing left$") as raised:
            result.value_or_raise()
        assert (raised.value.type, raised.value.traceback) == ("shop.errors.Empty", "Traceback …")

    def test_an_unknown_message_is_none_and_left_out(self) -> None:
        known = ended()
        assert get_result(uuid.uuid4()) is None
        assert set(get_results([known, uuid.uuid4(), known])) == {known}

    def test_a_fire_and_forget_task_is_refused_by_name_and_its_state_is_told(self) -> None:
        done, waiting = ended("test.results.forgotten"), enqueue("test.results.forgotten")
        for message_id in (waiting, done):
            with pytest.raises(ResultNotKept, match=r"got: 'test\.results\.forgotten'"):
                get_result(message_id)
        found = get_results([done])[done]
        assert (found.state, found.is_kept) == (MessageState.SUCCEEDED, False)
        with pytest.raises(ResultNotKept):
            found.value_or_raise()

    def test_the_error_of_a_fire_and_forget_task_is_told(self) -> None:
        result = get_result(ended("test.results.forgotten", Death(failure=FAILURE)))
        assert result is not None
        assert result.error == FAILURE

    def test_none_is_a_value_that_is_kept(self) -> None:
        result = get_result(ended())
        assert result is not None
        assert (result.is_kept, result.value_or_raise()) == (True, None)

    def test_a_queue_that_cannot_be_asked_is_not_taken_for_an_absent_result(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(ids: object) -> None:
            raise OperationalError("server closed the connection")

        monkeypatch.setattr(store("default"), "get", refuse)
        with pytest.raises(ResultsUnavailable, match="the queue's store: server closed"):
            get_result(uuid.uuid4())


@pytest.mark.django_db
class TestElsewhere:
    def test_the_queue_tells_the_end_and_the_store_the_value(self, elsewhere: ResultStore) -> None:
        message_id = ended()
        elsewhere.put([outcome(message_id, 1, value="there")])
        result = get_result(message_id)
        assert result is not None
        assert (result.state, result.value_or_raise()) == (MessageState.SUCCEEDED, "there")

    def test_what_was_put_is_no_result_before_the_message_has_ended(self, elsewhere: ResultStore) -> None:
        message_id = enqueue("test.results.kept")
        elsewhere.put([outcome(message_id, 1, value="early")])
        result = get_result(message_id)
        assert result is not None
        assert (result.state, result.value) == (MessageState.WAITING, None)

    def test_a_message_that_failed_has_no_value_though_one_was_put(self, elsewhere: ResultStore) -> None:
        message_id = ended(outcome=Death(failure=FAILURE))
        elsewhere.put([outcome(message_id, 1, value="of the execution before")])
        result = get_result(message_id)
        assert result is not None
        assert (result.state, result.value, result.error) == (MessageState.FAILED, None, FAILURE)

    def test_a_value_outlives_the_queues_outcome(self, elsewhere: ResultStore) -> None:
        message_id = uuid.uuid4()
        elsewhere.put([outcome(message_id, 1, value="old")])
        result = get_result(message_id)
        assert result is not None
        assert result.value_or_raise() == "old"

    def test_a_result_of_another_tenant_is_none(self, elsewhere: ResultStore) -> None:
        message_id = uuid.uuid4()
        elsewhere.put([outcome(message_id, 1, value="theirs", namespace="theirs")])
        assert get_result(message_id) is None
        assert get_results([message_id]) == {}

    def test_a_value_that_is_gone_is_told_from_none(self, elsewhere: ResultStore) -> None:
        gone, none = ended(), ended()
        elsewhere.put([outcome(none, 1, value=None)])
        found = get_results([gone, none])
        assert found[none].value_or_raise() is None
        assert not found[gone].is_kept
        with pytest.raises(ResultNotKept, match="it succeeded, and what it returned is not kept"):
            found[gone].value_or_raise()

    def test_what_the_queue_kept_before_the_store_was_set_up_is_found(self, elsewhere: ResultStore) -> None:
        result = get_result(ended(outcome=Success(value=[1])))
        assert result is not None
        assert result.value_or_raise() == [1]

    def test_a_store_that_cannot_be_asked_is_not_taken_for_an_absent_result(self, elsewhere: ResultStore) -> None:
        done, waiting = ended(), enqueue("test.results.kept")
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE pg_queue_results_result RENAME TO away")
        assert get_result(waiting) is not None  # it has no end: the store is not asked
        with pytest.raises(ResultsUnavailable, match="results in database 'default'"):
            get_result(done)

    def test_the_reaper_expires_and_clears(self, elsewhere: ResultStore) -> None:
        assert "retain_results" in {duty.name for duty in all_duties()}
        stays, expires, old = (uuid.uuid4() for _ in range(3))
        elsewhere.put([outcome(expires, 1, ttl=timedelta(seconds=1)), outcome(old, 1), outcome(stays, 1)])
        long_ago = elsewhere.now() - timedelta(seconds=90)
        StoredResult.objects.filter(pk=expires).update(expires_at=long_ago)
        StoredResult.objects.filter(pk=old).update(finished_at=long_ago)
        assert retain_results() == 2
        assert set(elsewhere.get([stays, expires, old])) == {stays}


@pytest.mark.parametrize(
    ("state", "raised"),
    [("cancelled", TaskFailed), ("failed", TaskFailed), ("running", ResultNotReady), ("waiting", ResultNotReady)],
)
def test_only_a_success_has_a_value(state: str, raised: type[Exception]) -> None:
    with pytest.raises(raised):
        Result(message_id=uuid.uuid4(), state=MessageState(state), attempts=1, value=1).value_or_raise()


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        ("redis", r"PG_QUEUE\['RESULTS'\]: expected a dictionary, got: 'redis'"),
        ({"URI": "x"}, r"PG_QUEUE\['RESULTS'\]: expected keys among BACKEND, .*, got: 'URI'"),
        ({"BACKEND": "mongo"}, r"PG_QUEUE\['RESULTS'\]\['BACKEND'\]: expected 'database', 'redis' or .*, got: 'mongo'"),
        ({"BACKEND": 5}, r"PG_QUEUE\['RESULTS'\]\['BACKEND'\]: expected str, got: 5"),
        ({}, r"PG_QUEUE\['RESULTS'\]\['DATABASE'\]: expected an alias of DATABASES, .*, got: None"),
        ({"BACKEND": "redis"}, r"PG_QUEUE\['RESULTS'\]\['URL'\]: expected the URL of a Redis server, .*, got: None"),
        ({"BACKEND": "redis", "URL": "u", "PREFIX": "a{b"}, r"\['PREFIX'\]: expected a text without braces"),
        ({"DATABASE": "x", "TTL_SECONDS": -1}, r"\['RESULTS'\]\['TTL_SECONDS'\]: expected a number, 0 or more"),
        ({"DATABASE": "x", "MAX_BYTES": 0}, r"\['RESULTS'\]\['MAX_BYTES'\]: expected a number above 0"),
        ({"DATABASE": "x", "MAX_BYTES": 1.5}, r"\['MAX_BYTES'\]: expected int \| None, got: 1.5"),
        ({"DATABASE": "x", "GIVE_UP_SECONDS": float("nan")}, r"\['GIVE_UP_SECONDS'\]: expected a number"),
    ],
)
def test_a_wrong_setting_is_refused_by_name(raw: Any, said: str) -> None:
    with pytest.raises(Configuration, match=said):
        parse({"RESULTS": raw})


def test_the_queues_bounds_count_where_results_have_none() -> None:
    plain, own = parse({"RESULT_TTL_SECONDS": 5}), {"DATABASE": "x", "TTL_SECONDS": 0, "MAX_BYTES": 7}
    assert (plain.results_ttl_seconds, plain.max_result_bytes) == (5, 262_144)
    set_apart = parse({"RESULT_TTL_SECONDS": 5, "RESULTS": own})
    assert (set_apart.results_ttl_seconds, set_apart.max_result_bytes) == (0, 7)


@pytest.mark.parametrize(
    ("results", "said"),
    [
        ({"DATABASE": "nowhere"}, "expected an alias of DATABASES (default"),
        ({"BACKEND": "no.such.Class"}, "'no.such.Class' (No module named 'no')"),
        ({"BACKEND": "redis", "URL": "http://x"}, "PG_QUEUE['RESULTS']['URL']: expected the URL of a Redis server"),
    ],
)
def test_the_system_check_shows_where_results_cannot_be_kept(settings: Any, results: Any, said: str) -> None:
    settings.PG_QUEUE = {"RESULTS": results}
    (error,) = check_queue_settings()
    assert (error.id, said in error.msg) == ("pg_queue.E004", True), error.msg
    assert "docs/howto/results.md" in (error.hint or "")


def test_a_missing_driver_names_the_extra(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "redis", None)
    settings.PG_QUEUE = {"RESULTS": {"BACKEND": "redis", "URL": "redis://127.0.0.1"}}
    (error,) = check_queue_settings()
    assert "pip install 'django-downbeat[redis]'" in error.msg


def test_a_missing_app_is_named(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apps, "is_installed", lambda name: name != "pg_queue.results")
    settings.PG_QUEUE = {"RESULTS": {"DATABASE": "default"}}
    (error,) = check_queue_settings()
    assert "expected 'pg_queue.results' in INSTALLED_APPS" in error.msg


def test_a_database_with_a_timezone_of_its_own_is_refused(settings: Any, tmp_path: Path) -> None:
    with connected_sqlite(tmp_path):
        settings.PG_QUEUE = {"RESULTS": {"DATABASE": ALIAS}}
        (error,) = check_queue_settings()
        assert f"expected DATABASES['{ALIAS}'] without TIME_ZONE" in error.msg


def connected_sqlite(folder: Path) -> Any:
    """A SQLite alias with a TIME_ZONE."""
    entry = {"ENGINE": "django.db.backends.sqlite3", "NAME": str(folder / "x"), "TIME_ZONE": "Europe/Berlin"}
    return connected(Place(name="sqlite", results={}, databases={ALIAS: entry}))


def test_errors_of_a_store_are_the_queues_own() -> None:
    from pg_queue.errors import QueueError

    for error in (ResultNotKept, ResultNotReady, ResultRefused, ResultsUnavailable, TaskFailed):
        assert issubclass(error, QueueError)
