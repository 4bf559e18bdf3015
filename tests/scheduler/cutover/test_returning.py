"""Schedules handed back to Beat: PG fires up to an instant, Beat after it, whatever happens in between."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db.models.functions import Now
from django_celery_beat.models import PeriodicTask

from scheduler import api
from scheduler.api import PgPeriodicSchedule, ScheduleRun
from scheduler.cutover import complete_arrivals, complete_returns
from scheduler.cutover.watch import ROLL_BACKS, roll_back_misbehaving
from scheduler.models import BeatSend, Handover
from tests.scheduler.cutover.conftest import MINUTE, SECOND, Beat
from tests.scheduler.cutover.test_promotion import beats_row, now_is, promote, write_back
from tests.scheduler.schedules.conftest import Hands
from tests.scheduler.schedules.making import at, make

pytestmark = pytest.mark.django_db

T = at("2026-03-02 10:07:40")
"""Ten seconds after the clock that these tests begin with."""


def roll_back(*rows: PgPeriodicSchedule, **options: Any) -> list[api.HandoverAnswer]:
    return api.roll_back(api.chosen(schedules=[row.pk for row in rows]), **options)


@pytest.fixture
def pgs(
    every_minute: PgPeriodicSchedule, every_ten_seconds: PgPeriodicSchedule, beat: Beat
) -> list[PgPeriodicSchedule]:
    """Both were handed over; the interval is due at 10:07:30."""
    beat.send(every_minute, at("2026-03-02 10:07:00"))
    beat.send(every_ten_seconds, at("2026-03-02 10:07:20"), late=0)
    promote(every_minute, every_ten_seconds)
    beat.send_canary()
    complete_arrivals()
    return [now_is(every_minute), now_is(every_ten_seconds)]


def tick(row: PgPeriodicSchedule, to: datetime) -> None:
    """What the tick leaves once it has fired everything up to the instant."""
    PgPeriodicSchedule.objects.filter(pk=row.pk).update(next_run_at=to, hold="handover")


def test_beats_rows_are_enabled_with_a_last_run_from_which_nothing_before_the_instant_follows(
    pgs: list[PgPeriodicSchedule],
) -> None:
    assert [answer.status.value for answer in roll_back(*pgs)] == ["waiting", "waiting"]
    crontab, interval = (now_is(row) for row in pgs)
    assert {(row.firer, row.beat_from) for row in (crontab, interval)} == {("pg", T)}
    assert (beats_row(crontab).enabled, beats_row(crontab).last_run_at) == (True, T)
    assert (beats_row(interval).enabled, beats_row(interval).last_run_at) == (True, T)
    assert [answer.reason for answer in roll_back(*pgs)] == ["it is on its way back to Celery Beat already"] * 2


def test_a_long_interval_keeps_its_rhythm(made_before: Callable[..., Any], beat: Beat) -> None:
    daily = made_before(kind="interval", expression="P1D")
    promote(daily)
    beat.send_canary()
    complete_arrivals()
    roll_back(daily)
    assert beats_row(daily).last_run_at == daily.next_run_at - timedelta(days=1)


def test_what_pg_fired_before_it_went_back_is_not_gone_over_again(
    pgs: list[PgPeriodicSchedule], beat: Beat, hands: Hands
) -> None:
    roll_back(*pgs)
    hands.set("2026-03-02 10:07:41")
    nexts = at("2026-03-02 10:08:00"), at("2026-03-02 10:07:50")
    for row, following in zip(pgs, nexts, strict=True):
        tick(row, following)
    assert complete_returns() == 2
    promote(*pgs)  # before Beat has sent anything
    beat.send_canary()
    complete_arrivals()
    assert tuple(now_is(row).next_run_at for row in pgs) == nexts


def test_what_is_paused_when_it_goes_back_and_comes_again_is_accounted_for_when_it_is_resumed(
    pgs: list[PgPeriodicSchedule], beat: Beat, hands: Hands
) -> None:
    crontab = pgs[0]
    hands.set("2026-03-02 10:07:55")
    api.pause_schedule(crontab.pk)
    roll_back(crontab)
    hands.set("2026-03-02 10:09:01")
    assert complete_returns() == 1
    promote(crontab)
    beat.send_canary()
    complete_arrivals()
    api.resume_schedule(crontab.pk)
    [paused] = ScheduleRun.objects.of_schedule(crontab.pk).filter(state="paused")
    assert (paused.scheduled_for, paused.span_end) == (at("2026-03-02 10:08:00"), at("2026-03-02 10:09:00"))


def test_the_schedule_is_beats_when_pg_has_decided_everything_up_to_the_instant(
    pgs: list[PgPeriodicSchedule], beat: Beat, hands: Hands
) -> None:
    interval = pgs[1]
    roll_back(interval)
    hands.set("2026-03-02 10:07:41")
    assert complete_returns() == 0  # 10:07:30 and 10:07:40 are PG's still
    tick(interval, at("2026-03-02 10:07:50"))
    beat.send(interval, at("2026-03-02 10:07:50"), late=0.3)
    assert complete_returns() == 1
    returned = now_is(interval)
    assert (returned.firer, returned.beat_from, returned.hold) == ("beat", None, None)
    assert returned.next_run_at == at("2026-03-02 10:08:00") + timedelta(milliseconds=300)
    assert returned.last_run_at == at("2026-03-02 10:07:50")
    assert beats_row(interval).enabled
    assert [(one.to_firer, one.state) for one in Handover.objects.of_schedule(interval.pk).latest_first()] == [
        ("beat", "done"), ("pg", "done"),
    ]  # fmt: skip


def test_a_hand_over_that_waits_is_taken_back_as_if_nothing_had_been(
    every_minute: PgPeriodicSchedule, beat: Beat, hands: Hands
) -> None:
    promote(every_minute)
    sent = beat.send(every_minute, at("2026-03-02 10:07:00"), recorded_at=hands.now)
    write_back(every_minute, sent.sent_at, 1)
    [answer] = roll_back(every_minute, reason="enough")
    assert answer.status == "cancelled"
    row = now_is(every_minute)
    assert (row.firer, row.hold, row.run_count, row.last_run_at) == ("beat", None, 1, at("2026-03-02 10:07:00"))
    assert (beats_row(row).enabled, beats_row(row).last_run_at) == (True, sent.sent_at)
    beat.send_canary()
    assert complete_arrivals() == 0
    assert Handover.objects.get().state == "cancelled"


def pause_and_resume(pk: Any) -> None:
    api.pause_schedule(pk)
    api.resume_schedule(pk)


@pytest.mark.parametrize(
    ("act", "enabled", "last_run_at"),
    [
        (lambda pk: api.update_schedule(pk, args=[1]), True, T),
        (lambda pk: api.update_schedule(pk, expression="*/2 * * * *", dialect="celery"), True, T),
        (api.pause_schedule, False, T),
        (pause_and_resume, True, T),
    ],
    ids=["edit", "cadence", "pause", "resume"],
)
def test_a_change_in_the_middle_is_made_to_both_rows(
    pgs: list[PgPeriodicSchedule], hands: Hands, act: Callable[[Any], Any], enabled: bool, last_run_at: datetime
) -> None:
    crontab = pgs[0]
    roll_back(crontab)
    hands.now += SECOND
    act(crontab.pk)
    changed, beats = now_is(crontab), beats_row(crontab)
    assert (changed.firer, changed.beat_from, changed.enabled) == ("pg", T, enabled)
    assert (beats.enabled, beats.last_run_at) == (enabled, last_run_at)
    assert beats.args == ("[1]" if changed.args == [1] else "[]")
    hands.set("2026-03-02 10:07:41")
    assert complete_returns() == 1
    returned = now_is(crontab)
    assert (returned.firer, returned.enabled, returned.beat_from) == ("beat", enabled, None)
    assert beats_row(crontab).enabled is enabled


def test_a_schedule_that_is_deleted_in_the_middle_is_gone_on_both_sides(pgs: list[PgPeriodicSchedule]) -> None:
    roll_back(pgs[0])
    api.delete_schedule(pgs[0].pk)
    assert complete_returns() == 0
    assert not PeriodicTask.objects.filter(name=pgs[0].beat_name).exists()
    assert Handover.objects.latest_first().filter(to_firer="beat").get().state == "cancelled"


@pytest.mark.parametrize("is_left_out", [False, True], ids=["it is fired", "it is left out after all"])
def test_a_run_once_schedule_that_pg_fires_before_the_instant_is_not_sent_again(
    made_before: Callable[..., Any], beat: Beat, hands: Hands, is_left_out: bool
) -> None:
    once = made_before(expression="7 10 * * *", dialect="celery", run_limit=1)
    hands.set("2026-03-02 10:06:55")
    promote(once)
    beat.send_canary()
    complete_arrivals()
    roll_back(once)
    assert not beats_row(once).enabled
    hands.set("2026-03-02 10:07:06")
    tomorrow = at("2026-03-03 10:07:00")
    PgPeriodicSchedule.objects.filter(pk=once.pk).update(next_run_at=tomorrow if is_left_out else None)
    complete_returns()
    row = now_is(once)
    assert row.firer == ("pg" if is_left_out else "beat")
    assert beats_row(once).enabled is is_left_out
    hands.set("2026-03-02 10:07:20")
    complete_returns()
    assert now_is(once).firer == "beat"


def test_what_beat_cannot_hold_is_refused(hands: Hands) -> None:
    either_day = make(expression="0 0 1 * 1")
    [answer] = roll_back(either_day)
    assert answer.is_refused
    assert "Celery Beat, which fires this schedule, can hold" in answer.reason
    assert now_is(either_day).beat_from is None


def test_a_schedule_that_was_never_beats_goes_there_only_by_name(hands: Hands) -> None:
    row = make()
    assert api.roll_back(api.chosen()) == []
    [answer] = roll_back(row)
    assert answer.status == "waiting"


def test_a_ramp_grows_and_shrinks_by_whole_schedules_and_leaves_pgs_own_alone(
    made_before: Callable[..., Any], hands: Hands
) -> None:
    gate = Beat(hands.now, "gate")
    beats = [made_before(kind="interval", expression="PT1M") for _ in range(40)]
    native = make()

    def on_pg() -> set[Any]:
        rows = PgPeriodicSchedule.objects.filter(firer="pg", beat_from__isnull=True).exclude(pk=native.pk)
        return set(rows.values_list("pk", flat=True))

    sizes = []
    for percent in (25, 75, 40):
        answers = api.ramp(percent, is_forced=True)
        assert not any(answer.is_refused for answer in answers)
        assert on_pg() == {row.pk for row in beats if api.bucket_of(row.pk) < percent}
        sizes.append(len(on_pg()))
    assert 0 < sizes[0] < sizes[2] < sizes[1] < 40
    assert now_is(native).firer == "pg"
    assert gate.process.pk


def run(row: PgPeriodicSchedule, state: str, scheduled_for: datetime) -> None:
    ScheduleRun.objects.create(
        schedule_id=row.pk, organization_id="default", scheduled_for=scheduled_for, firer="pg", state=state,
        fired_at=scheduled_for,
    )  # fmt: skip


def misbehave(row: PgPeriodicSchedule, how: str, beat: Beat) -> None:
    """Do badly since it was handed over."""
    if how == "quarantined":
        PgPeriodicSchedule.objects.filter(pk=row.pk).update(quarantined_at=at("2026-03-02 10:08:00"))
    elif how == "sent":
        ended_at = Handover.objects.of_schedule(row.pk).get().ended_at
        beat.send(row, ended_at + MINUTE, is_first=False, recorded_at=ended_at + MINUTE)
    else:
        for number, state in enumerate(how.split()):
            run(row, state, at("2026-03-02 10:08:00") + number * MINUTE)


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("failed failed failed", "by itself: all its runs since have failed (3)"),
        ("quarantined", "by itself: the tick cannot evaluate it"),
        ("sent", "by itself: Celery Beat goes on sending it"),
        ("failed failed", None),
        ("failed succeeded failed failed", None),
    ],
)
def test_what_does_badly_since_it_was_handed_over_goes_back_by_itself(
    pgs: list[PgPeriodicSchedule], beat: Beat, hands: Hands, how: str, reason: str | None
) -> None:
    row = pgs[0]
    Handover.objects.update(ended_at=Now())
    misbehave(row, how, beat)
    counted = ROLL_BACKS._value.get()
    assert roll_back_misbehaving() == (reason is not None)
    assert ROLL_BACKS._value.get() - counted == (reason is not None)
    found = Handover.objects.of_schedule(row.pk).filter(to_firer="beat")
    assert list(found.values_list("reason", flat=True)) == ([reason] if reason else [])
    assert beats_row(row).enabled is (reason is not None)
    assert roll_back_misbehaving() == 0
    assert BeatSend.objects.exists()


def test_an_interval_that_is_taken_back_keeps_its_rhythm(
    every_ten_seconds: PgPeriodicSchedule, beat: Beat, hands: Hands
) -> None:
    sent = beat.send(every_ten_seconds, at("2026-03-02 10:07:20"), late=0.3)
    promote(every_ten_seconds)
    roll_back(every_ten_seconds)
    assert beats_row(every_ten_seconds).last_run_at == sent.sent_at


def test_a_change_that_brings_an_occurrence_before_the_instant_is_pgs_to_fire(
    pgs: list[PgPeriodicSchedule], hands: Hands
) -> None:
    crontab = pgs[0]
    roll_back(crontab)
    tick(crontab, at("2026-03-02 10:08:00"))
    api.update_schedule(crontab.pk, kind="clocked", expression="2026-03-02T10:07:36Z")
    changed = now_is(crontab)
    assert (changed.hold, changed.next_run_at) == (None, at("2026-03-02 10:07:36"))
    assert not beats_row(crontab).enabled


def test_a_run_once_schedule_that_has_run_before_is_sent_again_after_an_edit(
    made_before: Callable[..., Any], beat: Beat, hands: Hands
) -> None:
    once = made_before(expression="7 10 * * *", dialect="celery", run_limit=1)
    promote(once)
    PeriodicTask.objects.filter(name=once.beat_name).update(total_run_count=1)
    beat.send(once, at("2026-03-02 10:07:00"), recorded_at=hands.now)
    beat.send_canary()
    complete_arrivals()
    api.update_schedule(once.pk, expression="30 * * * *")
    roll_back(once)
    assert (beats_row(once).enabled, beats_row(once).one_off, beats_row(once).total_run_count) == (True, True, 0)


@pytest.mark.parametrize(
    "cadence",
    [
        {"expression": "7 10 * * *", "dialect": "celery", "run_limit": 1},
        {"kind": "clocked", "expression": "2026-03-02T10:07:00Z"},
    ],
    ids=["one-off", "clocked"],
)
def test_a_run_once_schedule_that_beat_has_sent_is_not_sent_again_when_it_is_taken_back(
    made_before: Callable[..., Any], beat: Beat, hands: Hands, cadence: dict[str, Any]
) -> None:
    once = made_before(**cadence)
    hands.set("2026-03-02 10:06:55")
    promote(once)
    sent = beat.send(once, at("2026-03-02 10:07:00"))
    write_back(once, sent.sent_at, 1)
    hands.set("2026-03-02 10:07:02")
    [answer] = roll_back(once)
    assert answer.status == "cancelled"
    assert not beats_row(once).enabled
    assert (now_is(once).next_run_at, now_is(once).enabled) == (None, False)
