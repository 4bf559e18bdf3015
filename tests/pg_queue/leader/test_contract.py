"""What an election promises, whichever database it is held on."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.db import connections

from pg_queue import leader
from pg_queue.errors import LeadershipLost
from pg_queue.leader import SESSION_ERRORS, Election, Leadership, PostgresElection, SqliteElection, candidacy, sqlite
from pg_queue.sqlite import add_functions, as_instant, as_text
from tests.processes import SqliteFile

TABLE = "CREATE TABLE done (what varchar(20))"


@dataclass(kw_only=True)
class Ballot:
    """An election's database: candidates, and a session that looks on."""

    candidate: Callable[..., Election]
    watcher: Any
    sleep: str
    """A statement that goes on for longer than any test."""

    def execute(self, statement: str) -> list[Any]:
        return self.watcher.execute(statement).fetchall() if statement.startswith("SELECT") else self._run(statement)

    def row(self, *columns: str) -> tuple[Any, ...]:
        """Of the leader `test`; instants as datetimes."""
        [row] = self.execute(f"SELECT {', '.join(columns)} FROM pg_queue_leader WHERE name = 'test'")
        return tuple(
            as_instant(value) if isinstance(value, str) and name.endswith("_at") else value
            for name, value in zip(columns, row, strict=True)
        )

    def _run(self, statement: str) -> list[Any]:
        self.watcher.execute(statement)
        return []


@pytest.fixture(params=["postgresql", "sqlite"])
def ballot(request: pytest.FixtureRequest) -> Iterator[Ballot]:
    """One on each database."""
    if request.param == "postgresql":
        database = request.getfixturevalue("process_database")
        with database.connect() as watcher:
            candidate = request.getfixturevalue("candidate")
            yield Ballot(candidate=candidate, watcher=watcher, sleep="SELECT pg_sleep(600)")
        return
    made: list[SqliteElection] = []
    file: SqliteFile = request.getfixturevalue("sqlite_file")

    def make(name: str = "test") -> SqliteElection:
        made.append(SqliteElection(name=name, connect=file.connect, lease_seconds=60))
        return made[-1]

    counting = "WITH RECURSIVE n (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n"
    with closing(file.connect()) as watcher:
        yield Ballot(candidate=make, watcher=watcher, sleep=counting)
    for election in made:
        election.close()


def win(candidate: Election, within_seconds: float = 60) -> Leadership:
    deadline = time.monotonic() + within_seconds
    while time.monotonic() < deadline:
        with suppress(*SESSION_ERRORS):
            if leadership := candidate.stand():
                return leadership
    raise AssertionError(f"no lead within {within_seconds} s: {candidate.standing}")


def test_only_one_of_two_candidates_leads_and_the_other_knows_who(ballot: Ballot) -> None:
    first, second = ballot.candidate(), ballot.candidate()
    with win(first) as leadership:
        assert second.stand() is None
        assert second.standing is not None
        assert (second.standing.term, second.standing.is_holder) == (leadership.term, False)
        assert 0 <= (second.standing.stamp_age_seconds or 0) < 60


def test_elections_of_different_names_do_not_meet(ballot: Ballot) -> None:
    with win(ballot.candidate("one")), win(ballot.candidate("other")):
        pass


def test_a_clean_stop_hands_over_at_once_and_says_when(ballot: Ballot) -> None:
    first, second = win(ballot.candidate()), ballot.candidate()
    assert second.stand() is None
    first.resign()
    resigned_at, heartbeat_at = ballot.row("resigned_at", "heartbeat_at")
    assert resigned_at == pytest.approx(heartbeat_at, abs=timedelta(seconds=60))
    following = second.stand()
    assert following is not None
    assert following.term == 2
    assert following.previous_heartbeat_at == heartbeat_at
    assert ballot.row("resigned_at") == (None,)
    following.close()


def test_a_term_that_did_nothing_does_not_hide_the_gap_before_it(ballot: Ballot) -> None:
    first = win(ballot.candidate())
    led_until = first.stamp()
    first.resign()
    led_until = ballot.row("heartbeat_at")[0] or led_until
    win(ballot.candidate()).close()
    ballot.execute("UPDATE pg_queue_leader SET resigned_at = since")
    assert win(ballot.candidate()).previous_heartbeat_at == led_until


def test_a_stamp_of_another_term_is_refused_and_nothing_is_committed(ballot: Ballot) -> None:
    ballot.execute(TABLE)
    leadership: Any = win(ballot.candidate())
    ballot.execute("UPDATE pg_queue_leader SET term = term + 1")
    with pytest.raises(LeadershipLost, match="term 1"), leadership.transaction():
        leadership.session.execute("INSERT INTO done VALUES ('stale')")
    with pytest.raises(LeadershipLost):
        leadership.stamp()
    assert ballot.execute("SELECT what FROM done") == []
    leadership.close()


def test_what_is_raised_in_a_transaction_undoes_it_and_its_stamp(ballot: Ballot) -> None:
    ballot.execute(TABLE)
    leadership: Any = win(ballot.candidate())
    before = ballot.row("heartbeat_at")

    def fail_in_the_middle() -> None:
        with leadership.transaction():
            leadership.session.execute("INSERT INTO done VALUES ('half')")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_in_the_middle()
    assert ballot.execute("SELECT what FROM done") == []
    assert ballot.row("heartbeat_at") == before
    with leadership.transaction() as now:
        leadership.session.execute("INSERT INTO done VALUES ('whole')")
    assert ballot.execute("SELECT what FROM done") == [("whole",)]
    assert ballot.row("heartbeat_at") == (now,)
    leadership.close()


def test_a_batch_that_takes_too_long_is_cut_off_and_the_leader_goes_on(
    ballot: Ballot, monkeypatch: pytest.MonkeyPatch
) -> None:
    ballot.execute(TABLE)
    leadership: Any = win(ballot.candidate())
    for module in (leader.postgres, sqlite):
        monkeypatch.setattr(module, "BATCH_SECONDS", 0.5)

    def take_long() -> None:
        with leadership.transaction():
            leadership.session.execute("INSERT INTO done VALUES ('slow')")
            leadership.session.execute(ballot.sleep).fetchone()

    with pytest.raises((psycopg.errors.QueryCanceled, sqlite3.OperationalError)) as cut_off:
        take_long()
    assert getattr(cut_off.value, "sqlite_errorname", "SQLITE_INTERRUPT") == "SQLITE_INTERRUPT"
    assert ballot.execute("SELECT what FROM done") == []
    leadership.stamp()
    leadership.close()


class TestOnSqlite:
    """The lease."""

    @pytest.fixture
    def file(self, sqlite_file: SqliteFile) -> SqliteFile:
        return sqlite_file

    @staticmethod
    def stamped(file: SqliteFile, ago: timedelta) -> None:
        with closing(file.connect()) as connection:
            connection.execute("UPDATE pg_queue_leader SET heartbeat_at = ?", [as_text(datetime.now(UTC) - ago)])

    @pytest.mark.parametrize("ago", [timedelta(minutes=1), timedelta(days=-1)], ids=["old", "the clock was put back"])
    def test_a_lease_that_is_over_is_taken_and_the_leader_before_cannot_commit(
        self, file: SqliteFile, ago: timedelta
    ) -> None:
        stale = win(SqliteElection(name="test", connect=file.connect))
        self.stamped(file, ago)
        following = SqliteElection(name="test", connect=file.connect).stand()
        assert following is not None
        assert following.term == 2
        with pytest.raises(LeadershipLost), stale.transaction():
            pass
        following.close()
        stale.close()

    def test_of_two_that_see_the_lease_end_one_leads(self, file: SqliteFile) -> None:
        win(SqliteElection(name="test", connect=file.connect)).close()
        self.stamped(file, timedelta(minutes=1))
        quicker = SqliteElection(name="test", connect=file.connect)
        won: list[Leadership | None] = []

        class Overtaken(SqliteElection):
            def _begin_term(self, *arguments: Any) -> Any:
                won.append(quicker.stand())
                return super()._begin_term(*arguments)

        assert Overtaken(name="test", connect=file.connect, lease_seconds=30).stand() is None
        [leadership] = won
        assert leadership is not None
        assert leadership.term == 2
        leadership.close()

    def test_a_transaction_of_the_leader_keeps_everybody_else_from_writing(self, file: SqliteFile) -> None:
        leadership = win(SqliteElection(name="test", connect=file.connect))
        with closing(sqlite3.connect(file.path, timeout=0, isolation_level=None)) as other, leadership.transaction():
            with pytest.raises(sqlite3.OperationalError) as busy:
                other.execute("UPDATE pg_queue_leader SET term = term + 1")
            assert busy.value.sqlite_errorname == "SQLITE_BUSY"
        leadership.close()

    def test_the_vendor_of_the_queues_database_chooses(
        self, file: SqliteFile, settings: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert isinstance(candidacy("test"), PostgresElection)
        options = {"ENGINE": "django.db.backends.sqlite3", "NAME": str(file.path), "OPTIONS": {}}
        entry = {**connections["default"].settings_dict, **options}
        monkeypatch.setitem(connections.settings, "lite", entry)
        settings.PG_QUEUE = {"DATABASE": "lite"}
        with win(candidacy("test")) as leadership:
            leadership.stamp()
        assert Path(connections["lite"].settings_dict["NAME"]) == file.path
        del connections["lite"]


def test_the_functions_are_known_to_every_connection() -> None:
    with closing(sqlite3.connect(":memory:")) as connection:
        add_functions(connection)
        assert connection.execute("SELECT nextval('x') < nextval('x'), length(pg_queue_uuid7())").fetchone() == (1, 32)
