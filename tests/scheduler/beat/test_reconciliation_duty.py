"""The reaper's duty of reconciling: what it costs, what it counts, and whom it meets."""

from __future__ import annotations

import threading
import time
from datetime import timedelta

import pytest
from django.db import connection, connections, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from django_celery_beat.models import PeriodicTask

from pg_queue.api import all_duties
from scheduler import api, following, ledger, reconciliation
from scheduler.beat import pairs
from scheduler.metrics import ScheduleCollector
from scheduler.models import BeatLink, MirrorDrift, ScheduleChange
from scheduler.reconciliation import DRIFT
from tests.scheduler.beat.test_following import beats_row, imported, mirrored
from tests.scheduler.beat.test_reconciliation import BEAT, OURS, duty, execute, found, update
from tests.scheduler.schedules.making import make

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("no_grace")]


def test_schedules_that_agree_cost_one_statement_however_many_they_are() -> None:
    for number in range(5):
        imported(str(number))
        make(name=f"pg {number}")
    duty()
    with CaptureQueriesContext(connection) as asked:
        assert duty() == 0
    looks = [query for query in asked.captured_queries if "md5(ROW" in query["sql"]]
    assert len(looks) == 1
    assert len(asked) <= 4  # with the transaction and the lock


def test_metrics_count_what_is_found_and_tell_what_is_open() -> None:
    def open_now() -> float:
        [family] = [one for one in ScheduleCollector().collect() if one.name == "downbeat_mirror_drift_open"]
        return float(family.samples[0].value)

    def total(what: str) -> float:
        return float(DRIFT.labels(what=what)._value.get())

    before = {what: total(what) for what in ("missing", "stale", "orphaned", "beat_row")}
    update(imported("stale"), queue="slow")
    imported("gone")
    execute(f"DELETE FROM {BEAT} WHERE name = 'gone'")
    duty()
    assert open_now() == 1  # the orphan waits
    duty()
    assert open_now() == 0
    after = {what: total(what) for what in before}
    assert after == before | {"stale": before["stale"] + 1, "orphaned": before["orphaned"] + 1}


def test_an_edit_that_is_under_way_is_waited_for_and_counts() -> None:
    row = imported()
    update(row, queue="slow")
    has_begun, is_waited_for = threading.Event(), threading.Event()

    def edit() -> None:
        try:
            with transaction.atomic():
                api.update_schedule(row.pk, queue="edited")
                has_begun.set()
                assert is_waited_for.wait(60)
        finally:
            connections.close_all()

    editing = threading.Thread(target=edit)
    editing.start()
    assert has_begun.wait(60)
    follow = following.follow
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(following, "follow", lambda one: (is_waited_for.set(), follow(one))[1])
        reported = found()
    editing.join(60)
    assert reported == []  # the edit had taken over what Beat's row said
    assert (mirrored(row).queue, beats_row(row).queue) == ("edited", "edited")
    assert found() == []


def test_while_another_process_looks_the_duty_leaves_it_to_that() -> None:
    update(imported(), queue="slow")
    looking, is_done = threading.Event(), threading.Event()

    def look() -> None:
        try:
            with transaction.atomic():
                assert pairs.find_suspects(is_alone=True)
                looking.set()
                assert is_done.wait(60)
        finally:
            connections.close_all()

    other = threading.Thread(target=look)
    other.start()
    assert looking.wait(60)
    assert duty() == 0
    is_done.set()
    other.join(60)
    assert duty() == 1


def test_the_duty_ends_in_time_and_goes_on_soon_else_it_waits_for_its_next_round(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows = [imported(name) for name in ("one", "two")]
    PeriodicTask.objects.update(queue="slow")
    [rounds] = [one for one in all_duties() if one.name == "reconcile"]
    assert rounds.every_seconds == 5
    with monkeypatch.context() as patched:
        patched.setattr(reconciliation, "_ROUND_SECONDS", 0)
        assert (rounds.run(), rounds.run()) == (1, 1)
    assert {mirrored(row).queue for row in rows} == {"slow"}
    assert rounds.run() == 0
    PeriodicTask.objects.update(queue="later")
    assert rounds.run() == 0  # it is not due for a minute
    monkeypatch.setattr(reconciliation, "monotonic", lambda: time.monotonic() + 60)
    assert rounds.run() == 2


def test_old_differences_that_are_repaired_are_forgotten() -> None:
    long_ago = timezone.now() - timedelta(days=91)
    for what, repaired_at in (("stale", long_ago), ("missing", timezone.now()), ("orphaned", None)):
        MirrorDrift.objects.create(
            schedule_id=make().pk, beat_name="x", what=what, found_at=long_ago, repaired_at=repaired_at
        )
    assert ledger.forget_drift() == 1
    assert set(MirrorDrift.objects.values_list("what", flat=True)) == {"missing", "orphaned"}


def test_links_of_what_is_gone_on_both_sides_are_forgotten_with_the_notes_of_it() -> None:
    rows = [imported(name) for name in ("kept by Beat's row", "kept by the schedule", "kept by a note", "gone")]
    BeatLink.objects.update(checked_at=timezone.now() - timedelta(days=91))
    ScheduleChange.objects.exclude(schedule_id=rows[2].pk).delete()
    execute(f"DELETE FROM {OURS} WHERE beat_name <> 'kept by the schedule'")
    execute(f"DELETE FROM {BEAT} WHERE name <> %s", rows[0].beat_name)
    assert ledger.forget_links() == 1
    assert not BeatLink.objects.filter(beat_name="gone").exists()
    assert BeatLink.objects.count() == 3
