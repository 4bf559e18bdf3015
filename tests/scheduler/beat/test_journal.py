"""What Beat sends, written down, on a real database: the sends, the ledger, and the mirrors that follow."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from scheduler.beat.journal import Journal
from scheduler.beat.sends import Process, Send, Tally
from scheduler.beat.sessions import Session
from scheduler.domain import BeatMode, SendState
from scheduler.tick import PostgresTick, make_tick
from tests.processes import ProcessDatabase
from tests.scheduler.rows import Rows, lead

NOON = datetime(2026, 3, 10, 12, 0, tzinfo=UTC)
SECOND, MINUTE, HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)
EVER = datetime(1970, 1, 1, tzinfo=UTC)
"""A send before this waits for no mirror: all of them wait."""
NEVER = datetime(2999, 1, 1, tzinfo=UTC)


def process(mode: BeatMode = BeatMode.OBSERVE) -> Process:
    return Process(id=uuid.uuid4(), host="host", process_id=1, scheduler="module:Class", mode=mode)


def send(name: object, sent_at: datetime, **fields: Any) -> Send:
    return Send(**{"beat_name": str(name), "message_id": str(uuid.uuid4()), "sent_at": sent_at} | fields)


@pytest.fixture
def session(process_database: ProcessDatabase) -> Iterator[Session]:
    """As a Beat process has it, with a shorter wait for locks."""
    with process_database.connect() as session:
        session.execute("SET lock_timeout = '300ms'")
        yield session


@pytest.fixture
def journal() -> Journal:
    return Journal(process())


def sends(rows: Rows, name: object = None) -> list[dict[str, Any]]:
    found = rows.session.execute("SELECT * FROM scheduler_beatsend ORDER BY id").fetchall()
    return [one for one in found if name is None or one["beat_name"] == str(name)]


def test_a_send_is_a_row_and_its_occurrence_one_in_the_ledger(rows: Rows, session: Session, journal: Journal) -> None:
    schedule_id = rows.add(firer="beat", organization_id="acme", next_run_at=NOON + MINUTE)
    made = send(schedule_id, NOON + SECOND)
    assert journal.record(session, [made], waiting_since=EVER) == []
    [noted] = sends(rows)
    assert (noted["schedule_id"], noted["scheduled_for"], noted["is_first"]) == (schedule_id, NOON, True)
    assert (noted["state"], noted["sent_at"], noted["message_id"]) == ("sent", made.sent_at, made.message_id)
    assert noted["process_id"] == journal.process.id
    [run] = rows.runs(schedule_id)
    assert (run["scheduled_for"], run["fired_at"], run["organization_id"]) == (NOON, made.sent_at, "acme")
    assert (run["origin"], run["firer"], run["state"], run["occurrences"]) == ("schedule", "beat", "fired", 1)
    row = rows.get(schedule_id)
    assert (row["last_run_at"], row["run_count"], row["next_run_at"]) == (NOON, 1, NOON + MINUTE)


def test_a_second_send_of_an_occurrence_is_recorded_and_is_not_the_first(
    rows: Rows, session: Session, journal: Journal
) -> None:
    schedule_id = rows.add(firer="beat")
    journal.record(session, [send(schedule_id, NOON), send(schedule_id, NOON + SECOND)], waiting_since=EVER)
    journal.record(session, [send(schedule_id, NOON + 2 * SECOND)], waiting_since=EVER)
    assert [one["is_first"] for one in sends(rows)] == [True, False, False]
    assert len(rows.runs()) == 1
    assert rows.get(schedule_id)["run_count"] == 1


def test_what_has_no_mirror_is_kept_without_a_schedule(rows: Rows, session: Session, journal: Journal) -> None:
    schedule_id = rows.add(firer="beat", beat_name="echo")
    unnamed = send("echo", NOON, is_entry=False)
    journal.record(session, [send("celery.backend_cleanup", NOON), unnamed], waiting_since=EVER)
    assert [(one["schedule_id"], one["scheduled_for"], one["is_first"]) for one in sends(rows)] == [
        (None, None, False),
        (None, None, False),
    ]
    assert rows.runs(schedule_id) == []


def test_an_occurrence_that_pg_has_fired_is_not_beats(rows: Rows, session: Session, journal: Journal) -> None:
    schedule_id = rows.add(next_run_at=NOON)
    with lead(rows.database) as leadership:
        make_tick(leadership).run(at=NOON)
    journal.record(session, [send(schedule_id, NOON + SECOND)], waiting_since=EVER)
    assert [one["is_first"] for one in sends(rows)] == [False]
    assert [run["firer"] for run in rows.runs(schedule_id)] == ["pg"]
    assert rows.get(schedule_id)["run_count"] == 1


def test_pg_does_not_fire_what_beat_has_sent(rows: Rows, session: Session, journal: Journal) -> None:
    schedule_id = rows.add(next_run_at=NOON)
    journal.record(session, [send(schedule_id, NOON)], waiting_since=EVER)
    with lead(rows.database) as leadership:
        assert make_tick(leadership).run(at=NOON + SECOND).taken == 1
    assert [run["firer"] for run in rows.runs(schedule_id)] == ["beat"]
    assert rows.messages() == []


def test_a_row_that_says_why_nothing_was_fired_becomes_fired(rows: Rows, session: Session, journal: Journal) -> None:
    schedule_id = rows.add(next_run_at=NOON, grace_seconds=1, catch_up="none", cron_string="0 * * * *")
    with lead(rows.database) as leadership:
        make_tick(leadership).run(at=NOON + MINUTE)
    assert [run["state"] for run in rows.runs(schedule_id)] == ["no_leader"]
    rows.change(schedule_id, firer="beat")
    journal.record(session, [send(schedule_id, NOON + 2 * MINUTE)], waiting_since=EVER)
    assert [(run["state"], run["firer"]) for run in rows.runs(schedule_id)] == [("fired", "beat")]
    assert sends(rows)[0]["is_first"]


def test_an_interval_goes_on_from_its_last_send(rows: Rows, session: Session, journal: Journal) -> None:
    schedule_id = rows.add_interval(10, firer="beat", next_run_at=NOON, updated_at=NOON - HOUR)
    drift = timedelta(milliseconds=700)
    instants = [NOON + step * (10 * SECOND + drift) for step in range(4)]
    journal.record(session, [send(schedule_id, at) for at in instants[:3]], waiting_since=EVER)
    journal.record(session, [send(schedule_id, instants[3])], waiting_since=EVER)
    occurrences = [one["scheduled_for"] for one in sends(rows)]
    assert occurrences == [NOON, *(at + 10 * SECOND for at in instants[:3])]
    assert all(one["is_first"] for one in sends(rows))
    row = rows.get(schedule_id)
    assert (row["next_run_at"], row["run_count"]) == (instants[3] + 10 * SECOND, 4)


def test_a_beat_that_was_killed_repeats_an_intervals_occurrence_when_it_starts(rows: Rows, session: Session) -> None:
    schedule_id = rows.add_interval(60, firer="beat", next_run_at=NOON, updated_at=NOON - HOUR)
    killed, restarted = Journal(process()), Journal(process())
    killed.record(session, [send(schedule_id, NOON)], waiting_since=EVER)
    restarted.record(session, [send(schedule_id, NOON + 40 * SECOND)], waiting_since=EVER)
    restarted.record(session, [send(schedule_id, NOON + 100 * SECOND)], waiting_since=EVER)
    assert [(one["scheduled_for"], one["is_first"]) for one in sends(rows)] == [
        (NOON, True),
        (NOON, False),
        (NOON + 100 * SECOND, True),
    ]
    assert rows.get(schedule_id)["next_run_at"] == NOON + 160 * SECOND


def test_what_two_beats_send_of_an_interval_is_each_occurrence_twice(rows: Rows, session: Session) -> None:
    schedule_id = rows.add_interval(60, firer="beat", next_run_at=NOON, updated_at=NOON - HOUR)
    beats = Journal(process()), Journal(process())
    for minute in range(3):
        for beat, phase in zip(beats, (0, 36), strict=True):
            beat.record(session, [send(schedule_id, NOON + minute * MINUTE + phase * SECOND)], waiting_since=EVER)
    assert [(one["scheduled_for"], one["is_first"]) for one in sends(rows)] == [
        (NOON + minute * MINUTE, is_first) for minute in range(3) for is_first in (True, False)
    ]


def test_an_end_and_a_limit_end_the_mirror_too(rows: Rows, session: Session, journal: Journal) -> None:
    ending = rows.add_interval(10, firer="beat", next_run_at=NOON, ends_at=NOON + 5 * SECOND)
    limited = rows.add(firer="beat", next_run_at=NOON, run_limit=1)
    journal.record(session, [send(ending, NOON), send(limited, NOON)], waiting_since=EVER)
    assert (rows.get(ending)["next_run_at"], rows.get(limited)["next_run_at"]) == (None, None)


def test_a_paused_schedule_that_is_sent_all_the_same_goes_on_after_that(
    rows: Rows, session: Session, journal: Journal
) -> None:
    schedule_id = rows.add(firer="beat", enabled=False, next_run_at=NOON)
    journal.record(session, [send(schedule_id, NOON)], waiting_since=EVER)
    assert rows.get(schedule_id)["next_run_at"] == NOON + MINUTE


def test_the_shadow_does_not_count_what_beat_sends(rows: Rows, session: Session, journal: Journal) -> None:
    schedule_id = rows.add(firer="beat", next_run_at=NOON)
    with lead(rows.database) as leadership:
        PostgresTick(leadership, is_shadow=True).run(at=NOON)
    journal.record(session, [send(schedule_id, NOON)], waiting_since=EVER)
    assert rows.get(schedule_id)["run_count"] == 1
    assert sorted(run["origin"] for run in rows.runs(schedule_id)) == ["schedule", "shadow"]


def test_a_failed_send_leaves_the_occurrence_free(rows: Rows, session: Session, journal: Journal) -> None:
    schedule_id = rows.add(firer="beat")
    journal.record(session, [send(schedule_id, NOON, state=SendState.FAILED)], waiting_since=EVER)
    assert [(one["state"], one["scheduled_for"], one["is_first"]) for one in sends(rows)] == [("failed", NOON, False)]
    assert rows.runs(schedule_id) == []
    assert rows.get(schedule_id)["run_count"] == 0


def test_a_mirror_that_means_nothing_spoils_no_other(rows: Rows, session: Session, journal: Journal) -> None:
    bad, good = rows.add(firer="beat", timezone="Mars/Base"), rows.add(firer="beat")
    journal.record(session, [send(bad, NOON), send(good, NOON)], waiting_since=EVER)
    assert [(one["schedule_id"], one["scheduled_for"]) for one in sends(rows)] == [(bad, None), (good, NOON)]


def test_a_mirror_that_somebody_holds_delays_its_own_sends_alone(
    rows: Rows, session: Session, journal: Journal
) -> None:
    held, free = rows.add(firer="beat"), rows.add(firer="beat")
    made = [send(held, NOON), send(free, NOON), send(held, NOON + MINUTE)]
    with rows.database.connect(autocommit=False) as other:
        other.execute("SELECT FROM scheduler_pgperiodicschedule WHERE pipeline_id = %s FOR UPDATE", [held])
        assert journal.record(session, made, waiting_since=EVER) == [made[0], made[2]]
        assert [one["schedule_id"] for one in sends(rows)] == [free]
        assert journal.record(session, [made[0]], waiting_since=NEVER) == []
    assert [one["is_first"] for one in sends(rows, held)] == [True]
    assert rows.get(held)["run_count"] == 0  # it waited too long: recorded, and the mirror left as it was
    assert journal.record(session, [made[2]], waiting_since=EVER) == []
    assert rows.get(held)["last_run_at"] == NOON + MINUTE


def test_a_batch_whose_commit_was_not_heard_of_is_not_recorded_twice(
    rows: Rows, session: Session, journal: Journal
) -> None:
    schedule_id = rows.add(firer="beat")
    made = [send(schedule_id, NOON), send("other", NOON)]
    journal.record(session, made, waiting_since=EVER)
    later = send(schedule_id, NOON + MINUTE)
    assert journal.record(session, [*made, later], waiting_since=EVER, is_repeated=True) == []
    assert [one["message_id"] for one in sends(rows)] == [one.message_id for one in [*made, later]]


def test_a_sign_of_life_registers_the_process_and_keeps_its_numbers(
    rows: Rows, session: Session, journal: Journal
) -> None:
    journal.give_sign_of_life(session, Tally())
    journal.give_sign_of_life(session, Tally(sent=5, refused=4, failed=3, dropped=1, overflowed=1), is_stopped=True)
    [row] = rows.session.execute("SELECT * FROM scheduler_beatprocess").fetchall()
    assert (row["id"], row["host"], row["mode"]) == (journal.process.id, "host", "observe")
    assert [row[f"{kind}sends"] for kind in ("", "refused_", "failed_", "lost_")] == [5, 4, 3, 2]
    assert row["stopped_at"] >= row["started_at"]


class Task:
    """Beat's row, which says nothing of its cadence."""

    crontab = interval = solar = clocked = None
    name = "task"


@pytest.fixture
def gate() -> Journal:
    """The journal of a Beat that asks before it sends."""
    return Journal(process(BeatMode.GATE))


def claim(gate: Journal, session: Session, name: object, at: datetime, **fields: Any) -> Any:
    asked = send(name, at, state=SendState.CLAIMED, **fields)
    return gate.claim(session, asked, Task())  # type: ignore[arg-type]


def test_a_claim_takes_the_occurrence_and_the_mirror_follows_when_it_is_sent(
    rows: Rows, session: Session, gate: Journal
) -> None:
    schedule_id = rows.add(firer="beat")
    made = claim(gate, session, schedule_id, NOON + SECOND)
    assert (made.is_refused, made.scheduled_for, sends(rows)[0]["state"]) == (False, NOON, "claimed")
    assert [run["state"] for run in rows.runs(schedule_id)] == ["fired"]
    assert rows.get(schedule_id)["run_count"] == 0
    gate.settle(session, made, SendState.SENT)
    gate.settle(session, made, SendState.SENT)
    assert (sends(rows)[0]["state"], rows.get(schedule_id)["run_count"]) == ("sent", 1)
    assert rows.get(schedule_id)["last_run_at"] == NOON


def test_a_claim_of_what_another_has_is_refused(rows: Rows, session: Session, gate: Journal) -> None:
    schedule_id = rows.add(firer="beat")
    claim(gate, session, schedule_id, NOON)
    assert claim(gate, session, schedule_id, NOON + SECOND).is_refused
    assert claim(Journal(process(BeatMode.GATE)), session, schedule_id, NOON + SECOND).is_refused
    assert [(one["state"], one["is_first"]) for one in sends(rows)] == [
        ("claimed", True),
        ("refused", False),
        ("refused", False),
    ]


def test_a_schedule_that_is_pgs_is_refused_always(rows: Rows, session: Session, gate: Journal) -> None:
    schedule_id = rows.add(firer="pg")
    assert claim(gate, session, schedule_id, NOON).is_refused
    assert rows.runs(schedule_id) == []


def test_what_cannot_be_named_cannot_be_claimed(rows: Rows, session: Session, gate: Journal) -> None:
    assert claim(gate, session, rows.add(firer="beat", cron_string="61 * * * *"), NOON).is_refused


def test_what_has_no_mirror_is_not_asked_for(rows: Rows, session: Session, gate: Journal) -> None:
    assert claim(gate, session, "unmirrored", NOON) is None
    assert sends(rows) == []


def test_a_claim_that_was_not_sent_gives_its_occurrence_back(rows: Rows, session: Session, gate: Journal) -> None:
    schedule_id = rows.add_interval(10, firer="beat", next_run_at=NOON, updated_at=NOON - HOUR)
    gate.settle(session, claim(gate, session, schedule_id, NOON), SendState.FAILED)
    assert (sends(rows)[0]["state"], rows.runs(schedule_id)) == ("failed", [])
    again = claim(gate, session, schedule_id, NOON + SECOND)
    assert (again.is_refused, again.scheduled_for) == (False, NOON)
    gate.settle(session, again, SendState.SENT)
    assert claim(gate, session, schedule_id, NOON + 11 * SECOND).scheduled_for == NOON + 11 * SECOND
    assert rows.get(schedule_id)["next_run_at"] == NOON + 11 * SECOND


def test_after_a_refusal_an_interval_goes_on_from_there(rows: Rows, session: Session, gate: Journal) -> None:
    schedule_id = rows.add_interval(60, firer="beat", next_run_at=NOON, updated_at=NOON - HOUR)
    killed = Journal(process(BeatMode.GATE))
    killed.settle(session, claim(killed, session, schedule_id, NOON), SendState.SENT)
    assert claim(gate, session, schedule_id, NOON + 40 * SECOND).is_refused
    assert claim(gate, session, schedule_id, NOON + 100 * SECOND).scheduled_for == NOON + 100 * SECOND


def test_a_claim_whose_commit_was_not_heard_of_is_found_again(rows: Rows, session: Session, gate: Journal) -> None:
    schedule_id = rows.add(firer="beat")
    asked = send(schedule_id, NOON, state=SendState.CLAIMED)
    first = gate.claim(session, asked, Task())  # type: ignore[arg-type]
    assert gate.claim(session, asked, Task(), is_repeated=True) == first  # type: ignore[arg-type]
    assert len(sends(rows)) == 1


def test_a_claim_waits_for_no_mirror_for_long(rows: Rows, session: Session, gate: Journal) -> None:
    schedule_id = rows.add(firer="beat")
    with rows.database.connect(autocommit=False) as other:
        other.execute("SELECT FROM scheduler_pgperiodicschedule FOR UPDATE")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            claim(gate, session, schedule_id, NOON)
    assert not claim(gate, session, schedule_id, NOON).is_refused
