"""A store that cannot be reached says so, which is not the same as having nothing; and goes on when it is back."""

from __future__ import annotations

import sqlite3
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from django.db import connections
from redis import Redis

from pg_queue.errors import ResultRefused, ResultsUnavailable
from pg_queue.results.ports import ResultStore
from tests.contract.results.hammer import outcome
from tests.contract.results.harness import Harness
from tests.gate import Gate, gate_to
from tests.places import ALIAS, PLACES, TABLE, Place, connected, own_redis, parameters

CALLS: dict[str, Callable[[ResultStore], Any]] = {
    "put": lambda store: store.put([outcome(uuid.uuid4(), 1)]),
    "get": lambda store: store.get([uuid.uuid4()]),
    "forget": lambda store: store.forget([uuid.uuid4()]),
    "clear": lambda store: store.clear(completed_before=outcome(uuid.uuid4(), 1).started_at, limit=1),
    "expire": lambda store: store.expire(limit=1),
    "count": lambda store: store.count(),
    "now": lambda store: store.now(),
}


@pytest.fixture(params=parameters("postgresql", "mariadb", "redis"))
def behind_gate(
    request: pytest.FixtureRequest, tmp_path: Path, django_db_blocker: Any
) -> Iterator[tuple[Harness, Gate]]:
    """A store, and the gate that all of its traffic goes through."""
    with django_db_blocker.unblock(), PLACES[request.param](tmp_path) as place, gate_to(place.address) as gate:
        seen = place.at("127.0.0.1", gate.port)
        with connected(seen):
            yield Harness(seen), gate


def test_every_call_says_that_the_server_is_away_and_works_when_it_is_back(behind_gate: tuple[Harness, Gate]) -> None:
    harness, gate = behind_gate
    kept = uuid.uuid4()
    harness.store.put([outcome(kept, 1)])
    gate.shut()
    for call in CALLS.values():
        with pytest.raises(ResultsUnavailable, match="results in "):
            call(harness.store)
    gate.open()
    assert set(harness.store.get([kept])) == {kept}
    for call in CALLS.values():
        call(harness.store)


def test_a_session_that_was_cut_off_is_replaced_without_a_word(behind_gate: tuple[Harness, Gate]) -> None:
    harness, gate = behind_gate
    for call in CALLS.values():
        call(harness.store)
        gate.shut()
        gate.open()
        call(harness.store)


@pytest.mark.services("redis")
def test_a_frozen_redis_is_given_up_within_its_timeout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pg_queue.results.redis.TIMEOUT_SECONDS", 0.3)
    with PLACES["redis"](tmp_path) as place, gate_to(place.address) as gate:
        harness = Harness(place.at("127.0.0.1", gate.port))
        gate.hold()
        began_at = time.monotonic()
        with pytest.raises(ResultsUnavailable):
            harness.store.get([uuid.uuid4()])
        assert time.monotonic() - began_at < 20  # of the 0.6 s that two tries take
        gate.let_go()
        assert harness.store.get([uuid.uuid4()]) == {}


@pytest.mark.services("redis")
def test_a_redis_that_takes_no_writes_is_unavailable_and_is_read_all_the_same(tmp_path: Path) -> None:
    with own_redis(tmp_path) as url:
        harness = Harness(Place(name="redis", results={"BACKEND": "redis", "URL": url, "PREFIX": "full"}))
        CALLS["put"](harness.store)
        with Redis.from_url(url) as client:
            client.config_set("maxmemory", 1)
            with pytest.raises(ResultsUnavailable, match="results in Redis"):
                CALLS["put"](harness.store)
            assert harness.store.count() == 1
            client.config_set("maxmemory", 0)
        CALLS["put"](harness.store)
        assert harness.store.count() == 2


@pytest.mark.services("redis")
@pytest.mark.processes
def test_a_redis_that_was_killed_is_unavailable_and_goes_on_with_what_it_had_saved(tmp_path: Path) -> None:
    kept = uuid.uuid4()
    with own_redis(tmp_path) as url:
        harness = Harness(Place(name="redis", results={"BACKEND": "redis", "URL": url, "PREFIX": "killed"}))
        harness.store.put([outcome(kept, 1)])
    with pytest.raises(ResultsUnavailable):
        harness.store.get([kept])
    with own_redis(tmp_path, port=urlsplit(url).port):
        assert set(harness.store.get([kept])) == {kept}
        assert harness.store.count() == 1


def test_a_locked_sqlite_file_is_unavailable_until_it_is_unlocked(tmp_path: Path, django_db_blocker: Any) -> None:
    with django_db_blocker.unblock(), PLACES["sqlite"](tmp_path) as place:
        place.databases[ALIAS]["OPTIONS"]["timeout"] = 0.1
        with connected(place):
            harness = Harness(place)
            locker = sqlite3.connect(place.databases[ALIAS]["NAME"], isolation_level=None)
            locker.execute("BEGIN IMMEDIATE")
            with pytest.raises(ResultsUnavailable, match="results in database 'results_here'"):
                CALLS["put"](harness.store)
            locker.execute("ROLLBACK")
            CALLS["put"](harness.store)
            assert harness.store.count() == 1
            locker.close()


def test_a_missing_table_is_unavailable_and_not_an_absent_result(tmp_path: Path, django_db_blocker: Any) -> None:
    with django_db_blocker.unblock(), PLACES["sqlite"](tmp_path) as place, connected(place):
        harness = Harness(place)
        with connections[ALIAS].cursor() as cursor:
            cursor.execute(f"DROP TABLE {TABLE}")
        with pytest.raises(ResultsUnavailable):
            harness.store.get([uuid.uuid4()])


@pytest.mark.parametrize("name", parameters("postgresql", "mariadb", "sqlite"))
def test_what_the_table_cannot_hold_is_refused_for_good(name: str, tmp_path: Path, django_db_blocker: Any) -> None:
    with django_db_blocker.unblock(), PLACES[name](tmp_path) as place, connected(place):
        harness = Harness(place)
        with pytest.raises(ResultRefused):
            harness.store.put([outcome(uuid.uuid4(), 1, state=_Odd()), outcome(uuid.uuid4(), 1)])
        assert harness.store.count() == 0


class _Odd:
    """A state that the table's constraint does not know."""

    value = "odd"


@pytest.mark.parametrize("name", parameters("postgresql", "mariadb", "sqlite"))
def test_what_is_put_anew_between_finding_and_deleting_stays(
    name: str, tmp_path: Path, django_db_blocker: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with django_db_blocker.unblock(), PLACES[name](tmp_path) as place, connected(place):
        harness, message_id = Harness(place), uuid.uuid4()
        store = harness.made()
        harness.store.put([outcome(message_id, 1, ttl=timedelta(seconds=1))])
        harness.advance(5)
        ask = store._ask  # type: ignore[attr-defined]

        def ask_and_put_anew(action: Callable[[], Any]) -> Any:
            answer = ask(action)
            harness.store.put([outcome(message_id, 2, ttl=timedelta())])
            return answer

        monkeypatch.setattr(store, "_ask", ask_and_put_anew)
        assert store.expire(limit=10) == 0
        assert harness.store.get([message_id])[message_id].value == {"execution": 2}
