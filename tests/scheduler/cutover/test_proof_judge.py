"""The judge of `tests.proof` sees what was missed, what was done twice, and what is left inconsistent."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from tests.proof.cast import Fault
from tests.proof.evidence import Change, Evidence, Execution, Handover, Run, Schedule, Send
from tests.proof.judge import judge

ID = UUID(int=1)


def at(seconds: float) -> datetime:
    return datetime(2026, 11, 24, 12, tzinfo=UTC) + timedelta(seconds=seconds)


def send(occurrence: float, sent_at: float | None = None, **other: Any) -> Send:
    when = at(occurrence if sent_at is None else sent_at)
    return Send(schedule_id=ID, message_id=str(uuid4()), scheduled_for=at(occurrence), sent_at=when, **other)


def run(occurrence: float, firer: str = "pg", **other: Any) -> Run:
    return Run(id=uuid4(), schedule_id=ID, scheduled_for=at(occurrence), firer=firer, **other)


def edit(when: float, before: str, after: str) -> Change:
    return Change(schedule_id=ID, at=at(when), fields={"expression": [before, after]})


def switch(when: float, *, to: bool) -> Change:
    return Change(schedule_id=ID, at=at(when), fields={"enabled": [not to, to]})


def executed(sends: list[Send], runs: list[Run]) -> list[Execution]:
    made: list[tuple[str, str, datetime | None]] = [
        ("beat", one.message_id, one.sent_at) for one in sends if one.state == "sent"
    ]
    made += [("pg", str(one.id), None) for one in runs if one.firer == "pg" and one.is_fired]
    return [
        Execution(firer=firer, message_id=message_id, beat_name=str(ID), published_at=when)
        for firer, message_id, when in made
    ]


def told(sends: list[Send], runs: list[Run], **other: Any) -> Evidence:
    """A schedule of one second: Beat's, PG's after 4.6, Beat's again after 9.5."""
    there = Handover(schedule_id=ID, to_firer="pg", requested_at=at(3.5), ended_at=at(4.6))
    back = Handover(schedule_id=ID, to_firer="beat", requested_at=at(6.5), ended_at=at(9.6), beat_from=at(9.5))
    values: dict[str, Any] = {
        "until": at(13),
        "schedules": [Schedule(id=ID, kind="interval", expression="PT1S", created_at=at(0))],
        "runs": runs,
        "sends": sends,
        "handovers": [there, back],
        "executions": executed(sends, runs),
    }
    return Evidence(**{**values, **other})


SENDS = [send(1), send(2), send(3), send(4, 4.1), send(10.1, 10.2), send(11.2)]
RUNS = [run(5.1), run(6.1), run(7.1), run(8.1), run(9.1)]


def violated(evidence: Evidence) -> dict[str, int]:
    found = judge(evidence)
    assert found.is_clean == (not any(found.violations.values()))
    return {rule: len(all_of_it) for rule, all_of_it in found.violations.items() if all_of_it}


def without(place: int) -> list[Run]:
    return [one for number, one in enumerate(RUNS) if number != place]


def test_a_hand_over_there_and_back_is_clean() -> None:
    found = judge(told(SENDS, RUNS))
    assert found.is_clean
    assert not found.faults
    assert found.counts["occurrences fired by pg"] == 5


@pytest.mark.parametrize("place", range(5))
def test_an_occurrence_without_a_row_is_missed(place: int) -> None:
    assert violated(told(SENDS, without(place))) == {"missed": 1}


def test_a_stretch_that_pg_never_began_is_missed_as_a_whole() -> None:
    assert violated(told(SENDS, [])) == {"missed": 5}


def test_what_the_ledger_gives_a_reason_for_is_counted_and_not_missed() -> None:
    runs = [run(5.1), run(6.1, state="expired", reason="x", span_end=at(7.1), occurrences=2), run(8.1), run(9.1)]
    found = judge(told(SENDS, runs))
    assert found.is_clean
    assert found.counts["left out by pg: expired x"] == 2


def test_an_occurrence_off_the_rhythm_of_beats_sends_is_seen() -> None:
    runs = [run(5), run(6), run(7), run(8), run(9)]  # counted from an occurrence, not from the send
    assert violated(told(SENDS, runs))["unexpected"] == 1


def test_an_occurrence_that_both_fired_is_doubled() -> None:
    again = send(5.1, 4.5, is_first=False)
    assert violated(told([*SENDS[:4], again, *SENDS[4:]], RUNS))["sent, and fired by PG"] == 1


def test_a_send_of_what_is_pgs_is_a_trespass() -> None:
    assert violated(told([*SENDS[:4], send(6.5), *SENDS[4:]], RUNS)) == {"sent while PG's": 1}


def test_a_send_before_the_next_is_due_is_early_after_a_roll_back() -> None:
    assert violated(told([*SENDS[:4], send(9.7)], RUNS)) == {"sent early after a roll-back": 1}


def test_what_beat_leaves_out_after_a_roll_back_is_missed_unless_something_kept_it() -> None:
    late = [*SENDS[:4], send(12.1)]
    assert not judge(told(late, RUNS)).violations["missed"]
    assert judge(told(late, RUNS)).faults["not sent after a roll-back, because it was busy"] == 2
    other = Schedule(id=UUID(int=2), kind="interval", expression="PT1S", created_at=at(0))
    others = [replace(send(when), schedule_id=other.id) for when in (10.5, 10.9, 11.3)]
    sends = [*late, *others]
    both = told(sends, RUNS)
    both = replace(both, schedules=[*both.schedules, other])
    assert violated(both) == {"missed": 2}
    slow = replace(others[1], sent_at=at(11.5))
    assert violated(replace(both, sends=[*late, others[0], slow, others[2]])) == {}
    frozen = Fault(what="frozen", began_at=at(9), ended_at=at(11))
    assert judge(replace(both, faults=[frozen])).faults["not sent after a roll-back, because it was frozen"] == 2


def test_executions_are_one_for_each_message() -> None:
    whole = told(SENDS, RUNS)
    pgs = [one for one in whole.executions if one.firer == "pg"]
    beats = [one for one in whole.executions if one.firer == "beat"]
    assert violated(replace(whole, executions=[*beats, *pgs[1:]])) == {"fired and not executed": 1}
    assert violated(replace(whole, executions=[*beats[1:], *pgs])) == {"sent and not executed once": 1}
    assert violated(replace(whole, executions=[*beats, *pgs, pgs[0]])) == {"executed twice": 1}
    found = judge(replace(whole, executions=[*beats, *pgs, pgs[0]], worker_kills=1))
    assert found.is_clean
    assert found.counts["executed again after a worker was killed"] == 1


def test_what_a_killed_beat_sent_unrecorded_must_not_be_fired_by_pg() -> None:
    whole = told(SENDS, RUNS)
    secret = Execution(firer="beat", message_id="?", beat_name=str(ID), published_at=at(5.2))
    assert violated(replace(whole, executions=[*whole.executions, secret])) == {"executed for Beat, and fired by PG": 1}
    unknown = send(5.1, state="claimed")
    careful = told([*SENDS[:4], unknown, *SENDS[4:]], RUNS[1:])
    late = replace(careful.handovers[0], ended_at=at(5.3))
    careful = replace(careful, executions=[*careful.executions, secret], handovers=[late, careful.handovers[1]])
    found = judge(careful)
    assert found.is_clean
    assert len(found.unknown) == 1


def test_edits_begin_the_rhythm_anew() -> None:
    runs = [run(5.1), run(6.1), run(8.6), run(10.6)]
    evidence = told(SENDS[:4], runs, changes=[edit(6.6, "PT1S", "PT2S")])
    kept = replace(evidence, handovers=evidence.handovers[:1], until=at(11), schedules=_of_pg(evidence))
    assert violated(kept) == {}
    assert violated(replace(kept, changes=[edit(7.6, "PT1S", "PT2S")]))["missed"] >= 1


def test_what_beat_owed_before_a_hand_over_is_its_own_where_an_edit_comes_in_the_middle() -> None:
    listed = [run(4.1, state="expired", reason="schedule.edited"), run(6.3), run(8.3)]
    evidence = told(SENDS[:2], listed, changes=[edit(4.3, "PT1S", "PT2S")])
    kept = replace(evidence, handovers=evidence.handovers[:1], until=at(9), schedules=_of_pg(evidence))
    started = replace(kept.handovers[0], requested_at=at(4.05))
    sends = [replace(one, sent_at=one.sent_at + timedelta(seconds=0.1)) for one in SENDS[:2]]
    kept = replace(kept, handovers=[started], sends=sends, executions=executed(sends, listed))
    assert violated(kept) == {}
    assert violated(replace(kept, runs=listed[1:]))["missed"] == 1


def test_a_pause_leaves_a_row_and_the_rhythm_as_it_is() -> None:
    runs = [run(5.1), run(6.1, state="paused", span_end=at(7.1), occurrences=2), run(8.1), run(9.1)]
    changes = [switch(5.5, to=False), switch(7.5, to=True)]
    assert violated(told(SENDS, runs, changes=changes)) == {}
    assert violated(told(SENDS, [runs[0], *runs[2:]], changes=changes)) == {"missed": 2}


def test_what_beat_never_sent_is_pgs_from_what_it_could_be_late_with() -> None:
    there = Handover(schedule_id=ID, to_firer="pg", requested_at=at(30.5), ended_at=at(31))
    evidence = told([], [run(occurrence) for occurrence in range(16, 36)], handovers=[there], until=at(35.5))
    evidence = replace(evidence, schedules=_of_pg(evidence))
    assert violated(evidence) == {}
    assert violated(replace(evidence, runs=evidence.runs[1:])) == {"missed": 1}
    paused = [run(5, state="paused", span_end=at(15)), *evidence.runs]
    assert violated(replace(evidence, runs=paused, changes=[switch(4.5, to=False), switch(15.5, to=True)])) == {}


@pytest.mark.parametrize(("first", "wrong"), [(4, {}), (4.4, {}), (4.2, {"unexpected": 1}), (6, {"missed": 1})])
def test_a_send_that_was_under_way_when_the_schedule_was_paused_may_count_or_not(
    first: float, wrong: dict[str, int]
) -> None:
    runs = [run(first), run(first + 2), run(first + 4)]
    changes = [switch(2.3, to=False), switch(3.3, to=True)]
    evidence = told([send(2, 2.4)], runs, changes=changes, until=at(first + 5))
    slow = [replace(one, expression="PT2S") for one in _of_pg(evidence)]
    assert violated(replace(evidence, handovers=evidence.handovers[:1], schedules=slow)) == wrong


def _of_pg(evidence: Evidence) -> list[Schedule]:
    return [replace(one, firer="pg", is_enabled_in_beat=False) for one in evidence.schedules]


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        (lambda all_of_it: {"schedules": [replace(all_of_it.schedules[0], hold="handover")]}, "left inconsistent"),
        (lambda all_of_it: {"schedules": [replace(all_of_it.schedules[0], beat_from=at(1))]}, "left inconsistent"),
        (
            lambda all_of_it: {"schedules": [replace(all_of_it.schedules[0], is_enabled_in_beat=False)]},
            "left inconsistent",
        ),
        (lambda all_of_it: {"canaries": 1}, "canaries left"),
        (
            lambda all_of_it: {
                "handovers": [
                    *all_of_it.handovers,
                    Handover(schedule_id=ID, to_firer="pg", state="waiting", requested_at=at(12)),
                ]
            },
            "left waiting",
        ),
    ],
)
def test_in_the_end_nothing_is_left_between_the_two(change: Callable[[Evidence], dict[str, Any]], rule: str) -> None:
    whole = told(SENDS, RUNS)
    assert violated(replace(whole, **change(whole))) == {rule: 1}


def test_beats_own_faults_have_their_names() -> None:
    beat = [send(1), send(2), send(2, 2.4, is_first=False), send(3.4, 8.6)]
    whole = told(beat, [], handovers=[])
    assert judge(whole).faults == {"sent twice": 1, "not sent, because it was busy": 5}
    frozen = Fault(what="frozen", began_at=at(3), ended_at=at(8.5))
    assert judge(replace(whole, faults=[frozen])).faults["not sent, because it was frozen"] == 5
    taken_back = Handover(schedule_id=ID, to_firer="pg", state="cancelled", requested_at=at(4), ended_at=at(8))
    names = judge(replace(whole, handovers=[taken_back])).faults
    assert names["not sent, while a hand-over waited that was taken back"] == 5


def test_a_crontabs_occurrences_are_its_expressions() -> None:
    there = Handover(schedule_id=ID, to_firer="pg", requested_at=at(70), ended_at=at(71))
    schedule = Schedule(
        id=ID, kind="crontab", expression="* * * * *", created_at=at(0), firer="pg", is_enabled_in_beat=False
    )
    whole = told([send(60, 60.2)], [run(120), run(180)], schedules=[schedule], handovers=[there], until=at(200))
    assert violated(whole) == {}
    assert violated(replace(whole, until=at(241))) == {"missed": 1}
