"""Schedules handed over to PG: what is refused, what is waited for, and where PG begins."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone
from django_celery_beat.models import PeriodicTask

from scheduler import api, schedules
from scheduler.api import HandoverRefused, PgPeriodicSchedule, ScheduleRun
from scheduler.beat import trigger
from scheduler.cutover import complete_arrivals
from scheduler.cutover.arrival import plant_again, remove_unneeded_canaries
from scheduler.models import Handover
from tests.scheduler.cutover.conftest import MINUTE, SECOND, Beat
from tests.scheduler.schedules.conftest import Hands
from tests.scheduler.schedules.making import at, make

pytestmark = pytest.mark.django_db

Made = Callable[..., PgPeriodicSchedule]


def promote(*rows: PgPeriodicSchedule, **options: Any) -> list[api.HandoverAnswer]:
    return api.promote(api.chosen(schedules=[row.pk for row in rows]), **{"is_forced": True, **options})


def now_is(row: PgPeriodicSchedule) -> PgPeriodicSchedule:
    return PgPeriodicSchedule.objects.get(pk=row.pk)


def beats_row(row: PgPeriodicSchedule) -> PeriodicTask:
    return PeriodicTask.objects.get(name=row.beat_name)


def write_back(row: PgPeriodicSchedule, last_run_at: datetime, run_count: int) -> None:
    """As a Beat does that loads the change: dcb keeps no last run of a row that is disabled."""
    task = beats_row(row)
    task.last_run_at, task.total_run_count, task.no_changes = last_run_at, run_count, True
    task.save()


def canaries() -> list[str]:
    return list(PeriodicTask.objects.filter(name__startswith="downbeat-canary-").values_list("name", flat=True))


def ledger(row: PgPeriodicSchedule) -> list[tuple[str, Any]]:
    return list(ScheduleRun.objects.of_schedule(row.pk).order_by("scheduled_for").values_list("firer", "scheduled_for"))


def test_nothing_is_handed_over_without_a_beat_that_tells_what_it_sends(every_minute: PgPeriodicSchedule) -> None:
    with pytest.raises(HandoverRefused, match=r"expected one live process.*found none.*--beat-stopped"):
        promote(every_minute)
    assert now_is(every_minute).firer == "beat"


@pytest.mark.parametrize("second", ["observe", "gate"])
def test_two_beats_of_which_one_only_observes_are_refused(
    every_minute: PgPeriodicSchedule, beat: Beat, hands: Hands, second: str
) -> None:
    Beat(hands.now, second)
    with pytest.raises(HandoverRefused, match="found 2: here 1"):
        promote(every_minute)
    with pytest.raises(HandoverRefused, match="--beat-stopped: expected that no Celery Beat lives"):
        promote(every_minute, is_beat_stopped=True)
    assert not Handover.objects.exists()


def test_nothing_is_handed_over_while_beats_rows_are_not_guarded(every_minute: PgPeriodicSchedule, beat: Beat) -> None:
    trigger.remove("default", "a test")
    with pytest.raises(HandoverRefused, match=r"found it removed; `manage\.py tripwire restore`"):
        promote(every_minute)


def clean(row: PgPeriodicSchedule, beat: Beat, count: int, hands: Hands) -> None:
    """So many occurrences, the last a minute ago, of which both sides say the same."""
    latest = hands.now.replace(second=0) - MINUTE
    for number in range(count):
        scheduled_for = latest - number * MINUTE
        ScheduleRun.objects.create(
            id=uuid.uuid4(), schedule_id=row.pk, organization_id="default", scheduled_for=scheduled_for, firer="pg",
            origin="shadow", state="fired", fired_at=scheduled_for,
        )  # fmt: skip
        beat.send(row, scheduled_for)


def test_it_takes_as_many_clean_occurrences_as_the_setting_says_or_force_which_is_recorded(
    every_minute: PgPeriodicSchedule, beat: Beat, hands: Hands
) -> None:
    clean(every_minute, beat, 19, hands)
    [answer] = promote(every_minute, is_forced=False)
    assert (answer.status, answer.reason) == (
        "refused",
        "evidence: 19 of 20 occurrences in a row compared clean",
    )
    [answer] = promote(every_minute, reason="we are sure")
    assert answer.handover is not None
    kept = answer.handover
    assert (kept.is_forced, kept.reason, kept.evidence["clean"]) == (True, "we are sure", 19)


def test_a_schedule_with_enough_evidence_needs_no_force(
    every_minute: PgPeriodicSchedule, beat: Beat, hands: Hands
) -> None:
    clean(every_minute, beat, 20, hands)
    [planned] = api.plan_promotion(api.chosen())
    assert planned.status == "ready"
    assert now_is(every_minute).firer == "beat"
    [answer] = promote(every_minute)
    assert answer.status == "waiting"
    assert answer.handover is not None
    assert not answer.handover.is_forced


def test_pg_fires_nothing_until_beat_has_sent_the_canary_and_begins_with_what_beat_has_not_sent(
    every_minute: PgPeriodicSchedule, beat: Beat, hands: Hands
) -> None:
    beat.send(every_minute, at("2026-03-02 10:05:00"))
    PgPeriodicSchedule.objects.filter(pk=every_minute.pk).update(next_run_at=at("2026-03-02 10:08:00"))  # the shadow's
    hands.set("2026-03-02 10:06:58")
    [answer] = promote(every_minute)
    waiting = now_is(every_minute)
    assert (answer.status, waiting.firer, waiting.hold) == ("waiting", "pg", "handover")
    assert not beats_row(every_minute).enabled
    assert len(canaries()) == 1
    assert complete_arrivals() == 0
    beat.send(every_minute, at("2026-03-02 10:06:00"), late=58.5)
    beat.send_canary()
    hands.set("2026-03-02 10:08:03")
    assert complete_arrivals() == 1
    done = now_is(every_minute)
    assert (done.hold, done.next_run_at, done.make_up_until) == (None, at("2026-03-02 10:07:00"), hands.now)
    assert (done.run_count, done.last_run_at) == (1, at("2026-03-02 10:06:00"))
    assert remove_unneeded_canaries() == 1
    assert canaries() == []
    kept = Handover.objects.get()
    assert (kept.state, kept.outcome["sends"], kept.outcome["unknown"]) == ("done", 1, [])
    [again] = promote(every_minute)
    assert (again.status, again.reason) == ("unchanged", "PG fires it already")


@pytest.mark.parametrize(
    ("catch_up", "begins", "state", "last", "count"),
    [
        ("latest", at("2026-03-02 10:07:00"), "coalesced", at("2026-03-02 10:06:00"), 8),
        ("none", at("2026-03-02 10:08:00"), "expired", at("2026-03-02 10:07:00"), 9),
        ("all", at("2026-03-02 09:59:00"), None, None, 0),
    ],
)
def test_what_beat_had_owed_for_long_is_left_to_the_policy_and_what_came_due_since_is_made_up_for(
    every_minute: PgPeriodicSchedule,
    beat: Beat,
    hands: Hands,
    catch_up: str,
    begins: datetime,
    state: str | None,
    last: datetime | None,
    count: int,
) -> None:
    PgPeriodicSchedule.objects.filter(pk=every_minute.pk).update(catch_up=catch_up)
    beat.send(every_minute, at("2026-03-02 09:58:00"))
    promote(every_minute)
    beat.send_canary()
    hands.set("2026-03-02 10:09:30")
    complete_arrivals()
    assert now_is(every_minute).make_up_until == hands.now
    assert now_is(every_minute).next_run_at == begins
    left_out = (
        ScheduleRun.objects.of_schedule(every_minute.pk)
        .exclude(firer="beat")
        .values_list("state", "scheduled_for", "span_end", "occurrences")
    )
    assert list(left_out) == ([] if state is None else [(state, at("2026-03-02 09:59:00"), last, count)])


def test_an_interval_goes_on_from_beats_last_send(
    every_ten_seconds: PgPeriodicSchedule, beat: Beat, hands: Hands
) -> None:
    beat.send(every_ten_seconds, at("2026-03-02 10:07:24"), late=0.25)
    promote(every_ten_seconds)
    beat.send_canary()
    hands.set("2026-03-02 10:07:36")
    complete_arrivals()
    expected = at("2026-03-02 10:07:34") + timedelta(milliseconds=250)
    assert now_is(every_ten_seconds).next_run_at == expected


def test_an_interval_goes_on_from_the_last_of_several_sends_of_an_occurrence(
    every_ten_seconds: PgPeriodicSchedule, beat: Beat
) -> None:
    for late, is_first in ((4, False), (0, True)):  # a Beat that was killed sends it again, and counts from there
        beat.send(every_ten_seconds, at("2026-03-02 10:07:20"), late=late, is_first=is_first)
    promote(every_ten_seconds)
    beat.send_canary()
    complete_arrivals()
    assert now_is(every_ten_seconds).next_run_at == at("2026-03-02 10:07:34")


def test_a_schedule_that_beat_never_sent_begins_with_what_beat_could_be_late_with(
    made_before: Made, beat: Beat, hands: Hands
) -> None:
    daily = made_before(expression="7 10 * * *", dialect="celery")
    interval = made_before(kind="interval", expression="P1D")
    hands.set("2026-03-02 10:07:05")
    PgPeriodicSchedule.objects.filter(pk=daily.pk).update(next_run_at=at("2026-03-03 10:07:00"))  # the shadow's
    promote(daily, interval)
    beat.send_canary()
    complete_arrivals()
    assert now_is(daily).next_run_at == at("2026-03-02 10:07:00")
    assert now_is(interval).next_run_at == interval.next_run_at


def test_what_was_paused_is_not_made_up_for(every_minute: PgPeriodicSchedule, beat: Beat, hands: Hands) -> None:
    hands.set("2026-03-02 09:30:10")
    beat.send(every_minute, at("2026-03-02 09:30:00"))
    api.pause_schedule(every_minute.pk)
    hands.set("2026-03-02 10:07:10")
    api.resume_schedule(every_minute.pk)
    hands.set("2026-03-02 10:07:20")
    promote(every_minute)
    beat.send_canary()
    complete_arrivals()
    assert now_is(every_minute).next_run_at == at("2026-03-02 10:08:00")


def test_what_beat_counted_and_nobody_recorded_is_taken_and_listed(
    every_ten_seconds: PgPeriodicSchedule, beat: Beat, hands: Hands
) -> None:
    known = {"last_run_at": at("2026-03-02 10:07:10"), "total_run_count": 4}
    PeriodicTask.objects.filter(name=every_ten_seconds.beat_name).update(**known)
    beat.send(every_ten_seconds, at("2026-03-02 10:07:10"), late=0)
    promote(every_ten_seconds)
    write_back(every_ten_seconds, at("2026-03-02 10:07:20"), 5)
    beat.send_canary()
    complete_arrivals()
    assert now_is(every_ten_seconds).next_run_at == at("2026-03-02 10:07:30")
    assert ledger(every_ten_seconds) == [("beat", at("2026-03-02 10:07:20"))]
    assert [send.scheduled_for for send in api.unknown_sends()] == [at("2026-03-02 10:07:20")]


def test_what_a_killed_beat_may_have_sent_is_taken_and_listed(
    every_ten_seconds: PgPeriodicSchedule, beat: Beat, hands: Hands
) -> None:
    beat.send(every_ten_seconds, at("2026-03-02 10:07:10"), late=0)
    promote(every_ten_seconds)
    beat.die(at("2026-03-02 10:07:19"))
    Beat(timezone.now() + timedelta(hours=1)).send_canary()
    complete_arrivals()
    assert ledger(every_ten_seconds) == [("beat", at("2026-03-02 10:07:20"))]
    assert now_is(every_ten_seconds).next_run_at == at("2026-03-02 10:07:30")
    assert [send.process_id for send in api.unknown_sends()] == [beat.process.pk]


def test_a_one_off_that_beat_sends_meanwhile_has_ended(made_before: Made, beat: Beat, hands: Hands) -> None:
    once = made_before(expression="7 10 * * *", dialect="celery", run_limit=1)
    promote(once)
    beat.send(once, at("2026-03-02 10:07:00"), recorded_at=hands.now)
    beat.send_canary()
    complete_arrivals()
    ended = now_is(once)
    assert (ended.next_run_at, ended.run_count, ended.state) == (None, 1, "ended")


def test_every_beat_that_was_there_before_has_to_send_the_canary(
    every_minute: PgPeriodicSchedule, beat: Beat, hands: Hands
) -> None:
    promote(every_minute)
    other = Beat(hands.now)  # registered only now
    other.send_canary()
    assert complete_arrivals() == 0
    beat.send_canary()
    assert complete_arrivals() == 1


def test_a_canary_that_nobody_sends_is_planted_anew(every_minute: PgPeriodicSchedule, beat: Beat) -> None:
    promote(every_minute)
    [name] = canaries()
    before = PeriodicTask.objects.get(name=name).pk
    with connection.cursor() as cursor:
        cursor.execute("SELECT last_update FROM django_celery_beat_periodictasks")
        [stamp] = cursor.fetchone()
        assert plant_again() == 1
        cursor.execute("SELECT last_update FROM django_celery_beat_periodictasks")
        assert cursor.fetchone()[0] > stamp
    assert PeriodicTask.objects.get(name=name).pk != before
    beat.send_canary()
    assert plant_again() == 0


def test_beats_that_claim_need_no_wait_but_for_a_claim_that_is_open(
    every_minute: PgPeriodicSchedule, every_ten_seconds: PgPeriodicSchedule, hands: Hands
) -> None:
    gates = [Beat(hands.now, "gate"), Beat(hands.now, "gate")]
    gates[0].send(every_minute, at("2026-03-02 10:06:00"))
    claim = gates[1].send(every_minute, at("2026-03-02 10:07:00"), state="claimed")
    answers = {answer.schedule_id: answer.status.value for answer in promote(every_minute, every_ten_seconds)}
    assert answers == {every_minute.pk: "waiting", every_ten_seconds.pk: "done"}
    assert canaries() == []
    assert complete_arrivals() == 0
    claim.state = "failed"
    claim.save()
    assert complete_arrivals() == 1
    assert now_is(every_minute).next_run_at == at("2026-03-02 10:07:00")


def test_a_hand_over_that_waits_for_a_beat_that_is_gone_can_go_on_without(
    every_minute: PgPeriodicSchedule, beat: Beat, hands: Hands
) -> None:
    beat.send(every_minute, at("2026-03-02 10:06:00"))
    promote(every_minute)
    beat.process.stopped_at = hands.now
    beat.process.save()
    assert complete_arrivals() == 0
    hands.now += MINUTE
    [hint] = api.cutover_status().hints.values()
    assert "--beat-stopped" in hint
    [answer] = promote(every_minute, is_beat_stopped=True)
    assert answer.status == "done"
    assert now_is(every_minute).next_run_at == at("2026-03-02 10:07:00")


def test_one_that_is_refused_stops_no_other(
    every_minute: PgPeriodicSchedule, every_ten_seconds: PgPeriodicSchedule, beat: Beat
) -> None:
    PgPeriodicSchedule.objects.filter(pk=every_minute.pk).update(quarantined_at=timezone.now(), quarantine_error="no")
    answers = {answer.schedule_id: answer for answer in promote(every_minute, every_ten_seconds)}
    assert answers[every_minute.pk].reason == "it cannot be evaluated: no"
    assert answers[every_ten_seconds.pk].status == "waiting"


@pytest.mark.parametrize(
    ("act", "enabled"), [(api.pause_schedule, False), (lambda pk: api.update_schedule(pk, name="New"), True)]
)
def test_a_change_in_the_middle_stands_and_the_hand_over_goes_on(
    every_minute: PgPeriodicSchedule, beat: Beat, hands: Hands, act: Callable[[Any], Any], enabled: bool
) -> None:
    beat.send(every_minute, at("2026-03-02 10:07:00"))
    promote(every_minute)
    hands.now += SECOND
    act(every_minute.pk)
    assert not beats_row(every_minute).enabled
    beat.send_canary()
    assert complete_arrivals() == 1
    done = now_is(every_minute)
    assert (done.firer, done.hold, done.enabled) == ("pg", None, enabled)
    assert done.next_run_at == at("2026-03-02 10:08:00")


def test_a_change_of_the_cadence_in_the_middle_begins_after_it(
    every_minute: PgPeriodicSchedule, beat: Beat, hands: Hands
) -> None:
    beat.send(every_minute, at("2026-03-02 10:06:00"))
    promote(every_minute)
    hands.now += SECOND
    api.update_schedule(every_minute.pk, expression="*/2 * * * *")
    beat.send_canary()
    complete_arrivals()
    assert now_is(every_minute).next_run_at == at("2026-03-02 10:08:00")


def test_a_schedule_that_is_deleted_in_the_middle_is_gone_and_its_hand_over_cancelled(
    every_minute: PgPeriodicSchedule, beat: Beat
) -> None:
    promote(every_minute)
    api.delete_schedule(every_minute.pk)
    assert not PeriodicTask.objects.filter(name=every_minute.beat_name).exists()
    assert Handover.objects.get().state == "cancelled"
    make(firer="beat", expression="* * * * *", dialect="celery", schedule_id=every_minute.pk)
    [answer] = promote(every_minute)
    assert answer.status == "waiting"


def test_the_last_occurrence_of_all_is_fired_though_the_shadow_has_passed_it(
    made_before: Made, beat: Beat, hands: Hands
) -> None:
    ending = made_before(expression="* * * * *", dialect="celery", ends_at=at("2026-03-02 10:07:59"))
    once = made_before(kind="clocked", expression="2026-03-02T10:07:30Z")
    beat.send(ending, at("2026-03-02 10:06:00"))
    PgPeriodicSchedule.objects.update(next_run_at=None)
    hands.now += timedelta(milliseconds=100)
    promote(ending, once)
    beat.send_canary()
    complete_arrivals()
    assert now_is(ending).next_run_at == at("2026-03-02 10:07:00")
    assert now_is(once).next_run_at == at("2026-03-02 10:07:30")


def test_a_pause_that_ends_by_itself_in_the_middle_ends_at_its_instant(
    every_minute: PgPeriodicSchedule, beat: Beat, hands: Hands
) -> None:
    beat.send(every_minute, at("2026-03-02 10:05:00"))
    api.pause_schedule(every_minute.pk, until=at("2026-03-02 10:09:00"))
    hands.set("2026-03-02 10:08:59")
    promote(every_minute)
    hands.now += 1.4 * SECOND
    schedules.resume_on_time(every_minute.pk)
    beat.send_canary()
    complete_arrivals()
    assert now_is(every_minute).next_run_at == at("2026-03-02 10:09:00")


def test_a_row_that_cannot_be_evaluated_is_set_aside_and_keeps_no_other(
    every_minute: PgPeriodicSchedule, every_ten_seconds: PgPeriodicSchedule, beat: Beat
) -> None:
    promote(every_minute, every_ten_seconds)
    PgPeriodicSchedule.objects.filter(pk=every_minute.pk).update(timezone="Mars/Olympus")
    beat.send_canary()
    assert complete_arrivals() == 2
    assert now_is(every_minute).state == "quarantined"
    assert now_is(every_ten_seconds).hold is None
