"""Passes that take long: the term goes on meanwhile, and a stop is heard."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import pytest
from psycopg.pq import TransactionStatus

from pg_queue.leader import Leadership
from scheduler import tick as ticking
from scheduler import verdicts
from scheduler.tick import Tick
from tests.scheduler.rows import Rows

NOON = datetime(2026, 3, 10, 12, 0, tzinfo=UTC)


class Watched(Leadership):
    """A leadership that remembers in which state of its session it stamped."""

    def __init__(self, leadership: Leadership) -> None:
        super().__init__(**{name: getattr(leadership, name) for name in Leadership.__slots__})
        object.__setattr__(self, "stamped_in", [])

    def stamp(self) -> datetime:
        self.stamped_in.append(self.session.info.transaction_status)  # type: ignore[attr-defined]
        return super().stamp()

    def has_stamped_for_all_to_see(self) -> bool:
        """Outside a transaction, which might never be committed."""
        return TransactionStatus.IDLE in self.stamped_in  # type: ignore[attr-defined]


def test_expressions_that_take_longer_to_evaluate_than_a_session_may_idle_are_fired(
    leadership: Leadership, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    judge = verdicts.judge

    def judge_slowly(question: verdicts.Question) -> verdicts.Verdict:
        time.sleep(0.02)
        return judge(question)

    monkeypatch.setattr(verdicts, "judge", judge_slowly)
    monkeypatch.setattr(ticking, "_EVALUATION_SECONDS", 0.1)
    leadership.session.execute("SET idle_in_transaction_session_timeout = '300ms'")
    leadership.session.execute("SET idle_session_timeout = '700ms'")
    rows.add_many(60, NOON, cadences=60)
    watched = Watched(leadership)

    assert Tick(watched).run(at=NOON).fired == 60
    assert watched.has_stamped_for_all_to_see()


def test_a_leader_whose_batches_are_cut_off_goes_on_stamping(leadership: Leadership, rows: Rows) -> None:
    rows.add_many(40, NOON)
    _make_each_message_take(rows, "0.01")
    leadership.session.execute("SET statement_timeout = '200ms'")
    watched = Watched(leadership)
    assert Tick(watched).run(at=NOON).fired == 40
    assert watched.has_stamped_for_all_to_see()


def test_a_stop_ends_the_pass_after_the_batch_in_hand(leadership: Leadership, rows: Rows) -> None:
    rows.add_many(30, NOON)

    def is_stopping() -> bool:
        return rows.count("SELECT count(*) FROM pg_queue_message") >= 20

    made = Tick(leadership, batch=10, is_stopping=is_stopping).run(at=NOON)
    assert made.fired == len(rows.messages()) == 20
    assert Tick(leadership).run(at=NOON).fired == 10


def test_a_stop_is_heard_while_expressions_are_evaluated(
    leadership: Leadership, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ticking, "_EVALUATION_SECONDS", 0.0)
    rows.add_many(10, NOON, cadences=10)
    made = Tick(leadership, is_stopping=lambda: True).run(at=NOON)
    assert made.fired == 0
    assert Tick(leadership).run(at=NOON).fired == 10 - made.fired


def test_a_row_that_fails_only_at_the_commit_is_set_aside(leadership: Leadership, rows: Rows) -> None:
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
    made = Tick(leadership).run(at=NOON)
    assert list(made.quarantined) == [str(bad)]
    assert [run["schedule_id"] for run in rows.runs()] == [good]


def _make_each_message_take(rows: Rows, seconds: str) -> None:
    rows.session.execute(
        f"""
        CREATE FUNCTION dawdle() RETURNS trigger LANGUAGE plpgsql
            AS $$ BEGIN PERFORM pg_sleep({seconds}); RETURN NEW; END $$;
        CREATE TRIGGER dawdle BEFORE INSERT ON pg_queue_message FOR EACH ROW EXECUTE FUNCTION dawdle();
        """
    )
