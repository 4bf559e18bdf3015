"""Passes that take long: the term goes on meanwhile, and a stop is heard."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from datetime import UTC, datetime
from typing import Any

import pytest
from psycopg.pq import TransactionStatus

from pg_queue.leader import PostgresLeadership, SqliteLeadership, postgres
from scheduler import verdicts
from scheduler.tick import PostgresTick, make_tick
from scheduler.tick import contract as ticking
from tests.scheduler.rows import Rows

NOON = datetime(2026, 3, 10, 12, 0, tzinfo=UTC)


class Watch:
    """Remembers in which state of its session a leadership stamped."""

    def __init__(self, leadership: Any) -> None:
        stamped_outside = self.stamped_outside = []

        class Watched(type(leadership)):  # type: ignore[misc]
            def stamp(self) -> datetime:
                stamped_outside.append(is_idle(self))
                return super().stamp()

        self.leadership = Watched(**{field.name: getattr(leadership, field.name) for field in fields(leadership)})

    def stamps_for_all_to_see(self) -> int:
        """How often it stamped outside a transaction, which might never be committed."""
        return self.stamped_outside.count(True)


def is_idle(leadership: Any) -> bool:
    """No transaction is open."""
    if isinstance(leadership, SqliteLeadership):
        return not leadership.session.in_transaction
    return leadership.session.info.transaction_status is TransactionStatus.IDLE


class Hurried(PostgresTick):
    """A tick whose server cuts off the firing of more than 10 rows, at 0.02 s each, and no other statement."""

    @classmethod
    def of(cls, leadership: PostgresLeadership, rows: Rows) -> Hurried:
        """Slow the database's messages down, and make the tick."""
        rows.session.execute(
            """
            CREATE FUNCTION dawdle() RETURNS trigger LANGUAGE plpgsql
                AS $$ BEGIN PERFORM pg_sleep(0.02); RETURN NEW; END $$;
            CREATE TRIGGER dawdle BEFORE INSERT ON pg_queue_message FOR EACH ROW EXECUTE FUNCTION dawdle();
            """
        )
        return cls(leadership)

    def _write(self, parameters: Mapping[str, Any], is_careful: bool) -> Any:
        if parameters["limit"] > 10:
            self._session.execute("SET LOCAL statement_timeout = '50ms'")
        done = super()._write(parameters, is_careful)
        self._session.execute("SET LOCAL statement_timeout TO DEFAULT")
        return done


def test_expressions_that_take_long_to_evaluate_keep_no_transaction_open_and_the_term_going(
    leadership: PostgresLeadership, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    judge, judged_in = verdicts.judge, []

    def watch_judge(question: verdicts.Question) -> verdicts.Verdict:
        judged_in.append(is_idle(leadership))
        return judge(question)

    monkeypatch.setattr(verdicts, "judge", watch_judge)
    monkeypatch.setattr(ticking, "_EVALUATION_SECONDS", -1.0)  # each takes longer
    rows.add_many(60, NOON, cadences=60)
    watch = Watch(leadership)

    assert make_tick(watch.leadership).run(at=NOON).fired == 60
    assert judged_in == [True] * 60
    assert watch.stamps_for_all_to_see() == 60


@pytest.mark.postgresql("PL/pgSQL slows the server down; SQLite's time limit is in test_sqlite.py")
def test_a_leader_whose_batches_are_cut_off_goes_on_stamping(leadership: PostgresLeadership, rows: Rows) -> None:
    rows.add_many(40, NOON)
    watch = Watch(leadership)
    assert Hurried.of(watch.leadership, rows).run(at=NOON).fired == 40
    assert watch.stamps_for_all_to_see() > 0


@pytest.mark.postgresql("PL/pgSQL slows the server down; SQLite's time limit is in test_sqlite.py")
def test_batches_that_run_into_the_servers_time_limit_are_made_smaller_until_they_pass(
    leadership: PostgresLeadership, rows: Rows
) -> None:
    rows.add_many(100, NOON)
    made = Hurried.of(leadership, rows).run(at=NOON)
    assert made.fired == 100
    assert len(made.batch_seconds) > 2
    assert len(rows.messages()) == 100


@pytest.mark.postgresql("PL/pgSQL slows the server down; SQLite's time limit is in test_sqlite.py")
def test_a_batch_that_takes_longer_than_the_leader_may_is_made_smaller_and_no_lead_is_lost(
    leadership: PostgresLeadership, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "BATCH_SECONDS", 2.0)
    rows.session.execute(  # a hundred take too long; one, not even on a machine that stalls
        """
        CREATE FUNCTION dawdle() RETURNS trigger LANGUAGE plpgsql
            AS $$ BEGIN PERFORM pg_sleep(0.03); RETURN NEW; END $$;
        CREATE TRIGGER dawdle BEFORE INSERT ON pg_queue_message FOR EACH ROW EXECUTE FUNCTION dawdle();
        """
    )
    rows.add_many(100, NOON)
    made = make_tick(leadership).run(at=NOON)
    assert made.fired == len(rows.messages()) == 100
    assert len(made.batch_seconds) > 2
    assert leadership.stamp() > leadership.since


def test_a_stop_ends_the_pass_after_the_batch_in_hand(
    leadership: PostgresLeadership, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ticking, "_BATCH_SECONDS", 60.0)
    rows.add_many(30, NOON)

    def is_stopping() -> bool:
        return rows.count("SELECT count(*) FROM pg_queue_message") >= 20

    made = make_tick(leadership, batch=10, is_stopping=is_stopping).run(at=NOON)
    assert made.fired == len(rows.messages()) == 20
    assert make_tick(leadership).run(at=NOON).fired == 10


def test_a_stop_is_heard_while_expressions_are_evaluated(
    leadership: PostgresLeadership, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ticking, "_EVALUATION_SECONDS", -1.0)
    rows.add_many(10, NOON, cadences=10)
    made = make_tick(leadership, is_stopping=lambda: True).run(at=NOON)
    assert made.fired == 0
    assert make_tick(leadership).run(at=NOON).fired == 10 - made.fired


@pytest.mark.postgresql("SQLite defers foreign keys alone, and a message has none")
def test_a_row_that_fails_only_at_the_commit_is_set_aside(leadership: PostgresLeadership, rows: Rows) -> None:
    rows.session.execute(
        """
        CREATE FUNCTION refuse_late() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF NEW.queue = 'bad' THEN
                RAISE EXCEPTION 'not in this queue';
            END IF;
            RETURN NULL;
        END $$;
        CREATE CONSTRAINT TRIGGER late AFTER INSERT ON pg_queue_message DEFERRABLE INITIALLY DEFERRED
            FOR EACH ROW EXECUTE FUNCTION refuse_late();
        """
    )
    bad, good = rows.add(next_run_at=NOON, queue="bad"), rows.add(next_run_at=NOON)
    made = make_tick(leadership).run(at=NOON)
    assert list(made.quarantined) == [str(bad)]
    assert [run["schedule_id"] for run in rows.runs()] == [good]
