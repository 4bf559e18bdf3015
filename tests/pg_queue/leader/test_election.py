"""The leader protocol on real sessions, within one process."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import psycopg
import pytest

from pg_queue.errors import LeadershipLost
from pg_queue.leader import PostgresElection, PostgresLeadership, postgres
from pg_queue.leader.postgres import lock_key
from tests.processes import LOCKED_HERE, ProcessDatabase

Candidate = Callable[..., PostgresElection]
AS_SHIPPED, BATCH_AS_SHIPPED = postgres.SESSION_SETTINGS, postgres.BATCH_SECONDS


def win(candidate: PostgresElection, within_seconds: float = 60) -> PostgresLeadership:
    """Stand until the lead is won, as a scheduler does: a session that was lost meanwhile is replaced."""
    deadline = time.monotonic() + within_seconds
    while time.monotonic() < deadline:
        with suppress(psycopg.OperationalError):
            if leadership := candidate.stand():
                return leadership
    raise AssertionError(f"no lead within {within_seconds} s: {candidate.standing}")


def wait_until_nobody_leads(watcher: psycopg.Connection[Any], within_seconds: float = 60) -> None:
    deadline = time.monotonic() + within_seconds
    while holders(watcher):
        assert time.monotonic() < deadline, f"the lock is still held after {within_seconds} s"


@pytest.fixture
def watcher(process_database: ProcessDatabase) -> Iterator[psycopg.Connection[Any]]:
    """A session that looks on."""
    with process_database.connect() as session:
        yield session


def leader_row(watcher: psycopg.Connection[Any]) -> dict[str, Any]:
    with watcher.cursor(row_factory=psycopg.rows.dict_row) as cursor:
        row = cursor.execute("SELECT * FROM pg_queue_leader WHERE name = 'test'").fetchone()
    assert row is not None
    return row


def holders(watcher: psycopg.Connection[Any]) -> list[int]:
    key = lock_key("test") & (2**64 - 1)
    rows = watcher.execute(
        "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted AND classid = %s::oid AND objid = %s::oid"
        f" AND {LOCKED_HERE}",
        [key >> 32, key & (2**32 - 1)],
    ).fetchall()
    return [pid for (pid,) in rows]


def test_the_first_candidate_wins_and_the_row_says_who_it_is(
    candidate: Candidate, watcher: psycopg.Connection[Any]
) -> None:
    with win(candidate()) as leadership:
        row = leader_row(watcher)
        assert holders(watcher) == [leadership.session.info.backend_pid] == [row["pid"]]
        assert (row["term"], row["previous_heartbeat_at"], row["resigned_at"]) == (1, None, None)
        [(start,)] = watcher.execute(
            "SELECT backend_start FROM pg_stat_activity WHERE pid = %s", [row["pid"]]
        ).fetchall()
        assert row["backend_start"] == start


def test_a_stamp_of_another_term_or_session_is_refused_and_nothing_is_committed(
    candidate: Candidate, watcher: psycopg.Connection[Any]
) -> None:
    watcher.execute("CREATE TABLE done (what text)")
    leadership = win(candidate())
    watcher.execute("UPDATE pg_queue_leader SET term = term + 1")
    with pytest.raises(LeadershipLost, match="term 1"), leadership.transaction():
        leadership.session.execute("INSERT INTO done VALUES ('stale')")
    watcher.execute("UPDATE pg_queue_leader SET term = term - 1, pid = pid + 1")
    with pytest.raises(LeadershipLost):
        leadership.stamp()
    assert watcher.execute("SELECT FROM done").fetchall() == []
    leadership.close()


def test_a_batch_that_takes_too_long_is_cut_off_and_the_leader_goes_on(
    candidate: Candidate, watcher: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    watcher.execute("CREATE TABLE done (what text)")
    leadership = win(candidate())

    def take_long() -> None:
        with leadership.transaction():
            leadership.session.execute("INSERT INTO done VALUES ('slow')")
            leadership.session.execute("SELECT pg_sleep(60)")

    monkeypatch.setattr(postgres, "BATCH_SECONDS", 1.0)
    with pytest.raises(psycopg.errors.QueryCanceled):
        take_long()
    assert watcher.execute("SELECT FROM done").fetchall() == []
    leadership.stamp()
    assert leadership.session.execute("SHOW statement_timeout").fetchone() == ("1min",)  # the session's own
    with leadership.transaction():
        assert leadership.session.execute("SHOW statement_timeout").fetchone() == ("1s",)
    leadership.close()


def test_a_batch_is_cut_off_before_the_session_is() -> None:
    limits = ("statement_timeout", "idle_in_transaction_session_timeout")
    assert all(float(AS_SHIPPED[name].removesuffix("s")) > BATCH_AS_SHIPPED for name in limits)


def test_a_stale_leader_cannot_commit_what_it_had_in_hand(
    candidate: Candidate, watcher: psycopg.Connection[Any]
) -> None:
    watcher.execute("CREATE TABLE done (what text)")
    stale = win(candidate())

    def lose_the_lead_in_the_middle() -> None:
        with stale.transaction():
            stale.session.execute("INSERT INTO done VALUES ('stale')")
            assert watcher.execute("SELECT pg_terminate_backend(%s, 5000)", [stale.session.info.backend_pid]).fetchone()
            win(candidate()).close()

    with pytest.raises(psycopg.OperationalError):
        lose_the_lead_in_the_middle()
    assert watcher.execute("SELECT FROM done").fetchall() == []


@pytest.mark.parametrize("is_in_transaction", [False, True], ids=["idle", "in the middle of a transaction"])
def test_the_server_ends_the_session_of_a_leader_that_says_nothing(
    candidate: Candidate, is_in_transaction: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting = candidate(stale_seconds=3_600)  # no standby ends it
    with monkeypatch.context() as patched:
        patched.setattr(postgres, "SESSION_SETTINGS", AS_SHIPPED)
        silent = win(candidate())
    if is_in_transaction:
        silent.session.execute("BEGIN")
        silent.stamp()
    following = win(waiting)
    assert following.term == 2
    with pytest.raises(psycopg.Error, match="terminating connection due to idle"):
        silent.stamp()
    following.close()


def test_a_standby_terminates_a_leader_whose_stamp_is_too_old(
    candidate: Candidate, watcher: psycopg.Connection[Any]
) -> None:
    stale = win(candidate())
    stale.session.execute("SET idle_session_timeout = 0")
    watcher.execute("UPDATE pg_queue_leader SET heartbeat_at = clock_timestamp() - interval '11 s'")
    standby = candidate()
    assert standby.stand() is None
    wait_until_nobody_leads(watcher)  # the first round has ended it
    following = win(standby)
    assert following.term == 2
    with pytest.raises(psycopg.OperationalError):
        stale.stamp()
    following.close()


@pytest.mark.parametrize(
    "row",
    [
        "heartbeat_at = clock_timestamp() - interval '9 s'",
        "heartbeat_at = clock_timestamp() - interval '1 h', backend_start = backend_start - interval '1 s'",
        "heartbeat_at = clock_timestamp() - interval '1 h', pid = pid + 1",
    ],
    ids=["recent stamp", "the pid was used again", "another session's stamp"],
)
def test_a_standby_terminates_nobody_else(candidate: Candidate, watcher: psycopg.Connection[Any], row: str) -> None:
    holder = win(candidate())
    holder.session.execute("SET idle_session_timeout = 0")
    watcher.execute(f"UPDATE pg_queue_leader SET {row}")
    assert candidate(stale_seconds=60).stand() is None
    assert holders(watcher) == [holder.session.info.backend_pid]
    holder.close()


def test_a_session_that_holds_another_lock_is_not_terminated_whatever_the_row_says(
    candidate: Candidate, watcher: psycopg.Connection[Any], process_database: ProcessDatabase
) -> None:
    holder = win(candidate())
    with process_database.connect() as bystander:
        bystander.execute("SELECT pg_advisory_lock(7)")
        watcher.execute(
            "UPDATE pg_queue_leader SET heartbeat_at = clock_timestamp() - interval '1 h',"
            " pid = pid_of.pid, backend_start = pid_of.backend_start"
            " FROM pg_stat_activity AS pid_of WHERE pid_of.pid = %s",
            [bystander.info.backend_pid],
        )
        assert candidate().stand() is None
        assert bystander.execute("SELECT 1").fetchone() == (1,)
    holder.close()


def test_after_an_error_a_candidate_stands_on_a_fresh_session(
    candidate: Candidate, watcher: psycopg.Connection[Any]
) -> None:
    with win(candidate()):
        standby = candidate()
        assert standby.stand() is None
        assert standby._session is not None
        watcher.execute("SELECT pg_terminate_backend(%s, 5000)", [standby._session.info.backend_pid])
        with pytest.raises(psycopg.OperationalError):
            standby.stand()
        assert standby.stand() is None


def test_waiting_leaves_no_line_in_the_servers_log_and_no_snapshot_behind(
    candidate: Candidate, watcher: psycopg.Connection[Any]
) -> None:
    with win(candidate()):
        standby = candidate()
        for _ in range(3):
            assert standby.stand() is None
        assert standby._session is not None
        [(state, xmin)] = watcher.execute(
            "SELECT state, backend_xmin FROM pg_stat_activity WHERE pid = %s", [standby._session.info.backend_pid]
        ).fetchall()
        assert (state, xmin) == ("idle", None)
