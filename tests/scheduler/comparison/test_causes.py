"""How the cause of a difference is recognised; a cause is claimed only where its circumstance is there."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from scheduler.beat.differences import DifferenceRule
from scheduler.beat.evaluation import BeatSchedule
from scheduler.beat.expressions import BeatCrontab
from scheduler.comparison.causes import Circumstances, Life
from scheduler.comparison.pairing import Sides, judge, judge_all
from scheduler.comparison.verdicts import Circumstance, Finding, Verdict
from scheduler.domain import CronDialect, ScheduleKind
from scheduler.recurrence import Cadence

SCHEDULE, BEAT, OTHER_BEAT = uuid.uuid4(), uuid.uuid4(), uuid.uuid4()
NOON = datetime(2026, 3, 10, 12, 0, tzinfo=UTC)
SECOND, MINUTE, HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)


def life(process_id: uuid.UUID = BEAT, start: datetime = NOON - 9 * HOUR, end: datetime = NOON + 9 * HOUR) -> Life:
    """A Beat that ran all day."""
    return Life(process_id=process_id, started_at=start, ended_at=end)


def around(expression: str = "0 * * * *", zone: str = "UTC", **known: Any) -> Circumstances:
    """A crontab, and one Beat that ran all day."""
    columns = dict(
        zip(("minute", "hour", "day_of_month", "month_of_year", "day_of_week"), expression.split(), strict=True)
    )
    given: dict[str, Any] = {
        "cadence": Cadence(ScheduleKind.CRONTAB, expression, zone, CronDialect.CELERY),
        "beat": BeatSchedule(times=BeatCrontab(**columns), timezone=zone),
        "lives": [life()],
        "changes": [],
        "unfired": [],
    }
    return Circumstances(**given | known)


def sides(at: datetime, *sent: datetime | tuple[datetime, uuid.UUID], expected: bool = True, pg: bool = False) -> Sides:
    """An occurrence, and when Beat sent it."""
    sends = [one if isinstance(one, tuple) else (one, BEAT) for one in sent]
    return Sides(SCHEDULE, at, expected, pg, tuple(at for at, _ in sends), tuple(process for _, process in sends))


def told(finding: Finding) -> tuple[Verdict, Any]:
    """Verdict and cause."""
    return finding.verdict, finding.cause


def test_what_was_sent_once_on_time_matches() -> None:
    found = judge(sides(NOON, NOON + SECOND), around())
    assert (told(found), found.late_seconds, found.is_clean) == ((Verdict.MATCH, None), 1.0, True)


def test_what_was_sent_late_says_so() -> None:
    assert told(judge(sides(NOON, NOON + 6 * SECOND), around())) == (Verdict.SEMANTICS, Circumstance.LATE)


@pytest.mark.parametrize(
    ("known", "cause"),
    [
        ({}, Circumstance.LOST_SEND),
        ({"lives": []}, Circumstance.BEAT_DOWN),
        ({"lives": [life(end=NOON - SECOND)]}, Circumstance.BEAT_DOWN),
        ({"changes": [(NOON - 3 * SECOND, "update")]}, Circumstance.RELOAD_LAG),
        ({"changes": [(NOON - 11 * SECOND, "update")]}, Circumstance.LOST_SEND),
        ({"changes": [(NOON + SECOND, "update")]}, Circumstance.LOST_SEND),
    ],
)
def test_why_beat_did_not_send(known: dict[str, Any], cause: Circumstance) -> None:
    found = judge(sides(NOON), around(**known))
    assert (told(found), found.is_clean) == ((Verdict.SEMANTICS, cause), True)


def test_the_repeated_hour_is_named_by_its_rule() -> None:
    second_pass = datetime(2026, 10, 25, 1, 30, tzinfo=UTC)  # 02:30 in Berlin, for the second time
    known = around("*/30 * * * *", "Europe/Berlin")
    assert told(judge(sides(second_pass), known)) == (Verdict.SEMANTICS, DifferenceRule.REPEATED_HOUR)


def test_the_gap_in_spring_is_named_by_its_rule() -> None:
    known = around("30 2 * * *", "Europe/Berlin")
    ours, beats = datetime(2026, 3, 29, 1, 0, tzinfo=UTC), datetime(2026, 3, 29, 1, 30, tzinfo=UTC)
    assert told(judge(sides(ours), known)) == (Verdict.SEMANTICS, DifferenceRule.SPRING_GAP)
    assert told(judge(sides(beats, beats, expected=False), known)) == (Verdict.SEMANTICS, DifferenceRule.SPRING_GAP)


@pytest.mark.parametrize(
    ("known", "verdict", "cause"),
    [
        ({"changes": [(NOON + 30 * SECOND, "resume")]}, Verdict.SEMANTICS, Circumstance.RE_ENABLE_BURST),
        ({"changes": [(NOON + 30 * SECOND, "pause")]}, Verdict.SEMANTICS, Circumstance.RELOAD_LAG),
        ({"unfired": [(NOON - HOUR, NOON)]}, Verdict.SEMANTICS, Circumstance.NO_SHADOW),
        ({"unfired": [(NOON - HOUR, NOON - SECOND)]}, Verdict.BEAT_ONLY, None),
        ({}, Verdict.BEAT_ONLY, None),
    ],
)
def test_why_beat_sent_what_the_tick_would_not(known: dict[str, Any], verdict: Verdict, cause: Circumstance) -> None:
    found = judge(sides(NOON, NOON + 31 * SECOND, expected=False), around(**known))
    assert told(found) == (verdict, cause)


def test_a_daily_job_that_was_sent_at_another_hour_is_the_hour_windows() -> None:
    nine = NOON - 3 * HOUR
    known = around("0 9 * * *")
    twice = sides(nine, nine + SECOND, nine + 22 * HOUR)
    assert told(judge(twice, known)) == (Verdict.DUPLICATE, Circumstance.HOUR_WINDOW)
    assert told(judge(sides(nine, nine + 22 * HOUR, expected=False), known)) == (
        Verdict.SEMANTICS,
        Circumstance.HOUR_WINDOW,
    )


@pytest.mark.parametrize(
    ("known", "second", "cause"),
    [
        ({"lives": [life(end=NOON + SECOND), life(OTHER_BEAT, NOON + 3 * SECOND)]}, OTHER_BEAT, "beat_restarted"),
        ({"lives": [life(), life(OTHER_BEAT)]}, OTHER_BEAT, "two_beats"),
        ({"lives": [life(end=NOON + SECOND), life(OTHER_BEAT, NOON + 2 * SECOND - HOUR)]}, OTHER_BEAT, "two_beats"),
        ({"changes": [(NOON + SECOND, "resume")]}, BEAT, "re_enable_burst"),
        ({"changes": [(NOON + SECOND, "update")]}, BEAT, "reload_lag"),
        ({}, BEAT, None),
    ],
)
def test_why_one_occurrence_was_sent_twice(known: dict[str, Any], second: uuid.UUID, cause: str | None) -> None:
    found = judge(sides(NOON, NOON, (NOON + 4 * SECOND, second)), around(**known))
    assert told(found) == (Verdict.DUPLICATE, cause)
    assert found.is_clean is (cause is not None)


def test_a_send_of_what_pg_has_fired_is_a_duplicate_and_not_clean() -> None:
    found = judge(sides(NOON, NOON, expected=False, pg=True), around())
    assert (told(found), found.is_clean) == ((Verdict.DUPLICATE, Circumstance.BOTH_FIRERS), False)


def test_an_intervals_occurrences_are_paired_across_their_drift() -> None:
    known = around(cadence=Cadence(ScheduleKind.INTERVAL, "PT10S", "UTC"), beat=None)
    close, far = NOON + timedelta(milliseconds=20), NOON + MINUTE + timedelta(milliseconds=400)
    found = judge_all(
        [
            sides(NOON),
            sides(close, close, expected=False),
            sides(NOON + MINUTE),
            sides(far, far, expected=False),
            sides(NOON + 2 * MINUTE),
            sides(NOON + 3 * MINUTE, NOON + 3 * MINUTE),
        ],
        known,
    )
    assert [one.verdict for one in found] == [Verdict.MATCH, Verdict.DRIFT, Verdict.SEMANTICS, Verdict.MATCH]


@pytest.mark.parametrize(("started_before", "cause"), [(8, "beat_started"), (30, None)])
def test_the_first_send_of_an_interval_after_beats_start_is_told_by_it(started_before: int, cause: str | None) -> None:
    lives = [life(start=NOON - started_before * SECOND)]
    known = around(cadence=Cadence(ScheduleKind.INTERVAL, "PT10S", "UTC"), beat=None, lives=lives)
    assert judge(sides(NOON, NOON, expected=False), known).cause == cause


def test_an_interval_that_its_own_record_has_overtaken_is_told_by_it() -> None:
    known = around(cadence=Cadence(ScheduleKind.INTERVAL, "PT10S", "UTC"), beat=None)
    late = timedelta(milliseconds=5)
    second, third = NOON + late + 10 * SECOND, NOON + 2 * late + 20 * SECOND
    found = judge_all(
        [
            sides(NOON, NOON + late),
            sides(second, second + late, expected=False),
            sides(third + SECOND, third + SECOND + late, expected=False),
        ],
        known,
    )
    assert [told(one) for one in found] == [
        (Verdict.MATCH, None),
        (Verdict.SEMANTICS, Circumstance.OVERTAKEN),
        (Verdict.BEAT_ONLY, None),
    ]


def test_a_crontabs_occurrences_are_never_paired_with_others() -> None:
    near = NOON + timedelta(milliseconds=20)
    found = list(judge_all([sides(NOON), sides(near, near, expected=False)], around()))
    assert [told(one) for one in found] == [
        (Verdict.SEMANTICS, Circumstance.LOST_SEND),
        (Verdict.BEAT_ONLY, None),
    ]


def test_every_cause_has_a_sentence() -> None:
    assert all(len(cause.sentence) > 20 for kind in (Circumstance, DifferenceRule) for cause in kind)
