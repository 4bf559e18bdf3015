"""`DownbeatScheduler` in gate mode, driven tick by tick in this process: nothing is sent that it cannot claim."""

from __future__ import annotations

import signal
import threading
import time
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from typing import Any

import psycopg
import pytest
from celery import Celery, signals
from django.utils import timezone
from django_celery_beat.models import PeriodicTask, PeriodicTasks

from pg_queue.api import direct_connection
from scheduler import api
from scheduler.api import BeatSend, PgPeriodicSchedule, ScheduleRun
from scheduler.beat import gate as gates
from scheduler.beat import observer, sessions
from scheduler.beat.gate import DownbeatScheduler
from tests.scheduler.schedules.making import make

pytestmark = pytest.mark.django_db(transaction=True)

HOUR = timedelta(hours=1)


@pytest.fixture
def app() -> Celery:
    """A Celery app whose messages go nowhere."""
    app = Celery("tests", broker="memory://")
    app.conf.update(timezone="UTC", result_expires=None, task_publish_retry=False)
    return app


@pytest.fixture
def published() -> Iterator[list[str]]:
    """Names of the entries whose messages were published, in order."""
    names: list[str] = []

    def note(headers: dict[str, Any], **_: object) -> None:
        names.append(headers["periodic_task_name"])

    signals.after_task_publish.connect(note)
    yield names
    signals.after_task_publish.disconnect(note)


@pytest.fixture
def beat(app: Celery, settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], DownbeatScheduler]]:
    """Starts a Beat in gate mode as often as it is called; waits are as short as they can be."""
    settings.SCHEDULER = {"BEAT_MODE": "gate"}
    monkeypatch.setattr(sessions, "_BOUNDS", {**sessions._BOUNDS, "lock_timeout": "200ms"})
    monkeypatch.setattr(gates, "_UNANSWERED_SECONDS", (0.01, 0.01))
    monkeypatch.setattr(gates, "_UNPUBLISHED_SECONDS", (0.01, 0.01))
    started: list[DownbeatScheduler] = []

    def start() -> DownbeatScheduler:
        observer.stop()  # another process
        started.append(DownbeatScheduler(app=app))
        return started[-1]

    yield start
    for scheduler in started:
        scheduler.close()
    observer.stop()


def due() -> PgPeriodicSchedule:
    """A schedule of Beat's that is due, and will not be again for long: that of New Year's Day."""
    made = make(firer="beat", expression="0 0-23 1 1 *")
    owe(made.beat_name)
    return made


def owe(name: str) -> None:
    """Beat's row as of a Beat that has not run, or not stored that it has, for more than a year."""
    PeriodicTask.objects.filter(name=name).update(last_run_at=timezone.now() - 9000 * HOUR)
    PeriodicTasks.update_changed()


def tick_until(scheduler: DownbeatScheduler, is_true: Callable[[], Any]) -> None:
    for _ in range(2000):
        if is_true():
            return
        delay = scheduler.tick()
        threading.Event().wait(min(delay or 0, 0.02))
    raise AssertionError("2000 ticks were not enough")


def states() -> list[str]:
    return list(BeatSend.objects.order_by("id").values_list("state", flat=True))


def last_run_at(made: PgPeriodicSchedule, scheduler: DownbeatScheduler) -> Any:
    return scheduler.schedule[made.beat_name].model.last_run_at


@contextmanager
def elsewhere(statement: str) -> Iterator[None]:
    """Run a statement in a transaction of another session, which stays open while the block lasts."""
    with direct_connection("test") as session, session.transaction(force_rollback=True):
        session.execute(statement)
        yield


def test_what_is_due_is_claimed_and_sent_once(beat: Any, published: list[str]) -> None:
    made, scheduler = due(), beat()
    tick_until(scheduler, lambda: published)
    assert published == [made.beat_name]
    [noted] = BeatSend.objects.all()
    assert (noted.state, noted.is_first, noted.schedule_id) == ("sent", True, made.pk)
    run = ScheduleRun.objects.get(schedule_id=made.pk)
    assert (run.scheduled_for, run.firer, run.state) == (noted.scheduled_for, "beat", "fired")
    made.refresh_from_db()
    assert (made.last_run_at, made.run_count) == (noted.scheduled_for, 1)
    assert last_run_at(made, scheduler) > timezone.now() - HOUR


def test_the_message_carries_the_id_that_is_recorded(beat: Any, published: list[str]) -> None:
    ids: list[str] = []

    def note(headers: dict[str, Any], **_: object) -> None:
        ids.append(headers["id"])

    due()
    signals.before_task_publish.connect(note)
    tick_until(beat(), lambda: published)
    signals.before_task_publish.disconnect(note)
    assert list(BeatSend.objects.values_list("message_id", flat=True)) == ids


def test_a_beat_that_starts_again_without_having_stored_does_not_repeat(beat: Any, published: list[str]) -> None:
    made = due()
    tick_until(beat(), lambda: published)
    owe(made.beat_name)
    scheduler = beat()
    tick_until(scheduler, lambda: "refused" in states())
    assert (published, states()) == ([made.beat_name], ["sent", "refused"])
    assert last_run_at(made, scheduler) > timezone.now() - HOUR  # on as if it had sent
    assert scheduler.tick() > 0


def test_what_pg_fires_is_refused_whatever_beats_row_says(beat: Any, published: list[str]) -> None:
    made = due()
    PgPeriodicSchedule.objects.filter(pk=made.pk).update(firer="pg")
    tick_until(beat(), lambda: states() == ["refused"])
    assert published == []
    assert not ScheduleRun.objects.exists()


def test_what_has_no_mirror_is_sent_as_ever_and_observed(beat: Any, published: list[str]) -> None:
    made = due()
    PgPeriodicSchedule.objects.filter(pk=made.pk).delete()
    tick_until(beat(), lambda: published)
    observer.stop()
    assert [(noted.state, noted.schedule_id) for noted in BeatSend.objects.all()] == [("sent", None)]


def test_where_the_database_does_not_answer_nothing_is_sent_until_it_does(
    beat: Any, published: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    made, scheduler, attempts = due(), beat(), []

    def refuse(*_: object, **__: object) -> None:
        attempts.append(True)
        raise psycopg.OperationalError("connection refused")

    with monkeypatch.context() as patched:
        patched.setattr(sessions, "direct_connection", refuse)
        patched.setattr(gates, "_UNANSWERED_SECONDS", (0.001, 0.001))
        tick_until(scheduler, lambda: len(attempts) > 3)
    assert published == []
    assert last_run_at(made, scheduler) < timezone.now() - HOUR  # not advanced
    tick_until(scheduler, lambda: published)
    assert (published, states()) == ([made.beat_name], ["sent"])


def test_a_mirror_that_somebody_holds_keeps_no_other_send_back(
    beat: Any, published: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gates, "_UNANSWERED_SECONDS", (3600.0, 3600.0))
    held, *free = (due().pk for _ in range(5))
    scheduler = beat()
    with elsewhere(f"SELECT FROM scheduler_pgperiodicschedule WHERE pipeline_id = '{held}' FOR UPDATE"):
        tick_until(scheduler, lambda: len(published) == 4)
    assert set(published) == {str(pk) for pk in free}


def test_a_send_whose_mirror_somebody_holds_is_made_when_that_is_free(beat: Any, published: list[str]) -> None:
    held, scheduler = due(), beat()
    with elsewhere("SELECT FROM scheduler_pgperiodicschedule FOR UPDATE"):
        scheduler.tick()
        assert published == []
    tick_until(scheduler, lambda: published)
    assert (published, states()) == ([held.beat_name], ["sent"])


def test_a_send_that_the_broker_refuses_is_claimed_and_sent_again(
    beat: Any, published: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    made, scheduler = due(), beat()
    failures = [ConnectionError("no broker"), ConnectionError("no broker")]
    send_task = DownbeatScheduler.send_task

    def refuse(self: DownbeatScheduler, *args: Any, **kwargs: Any) -> Any:
        if failures:
            raise failures.pop()
        return send_task(self, *args, **kwargs)

    monkeypatch.setattr(DownbeatScheduler, "send_task", refuse)
    tick_until(scheduler, lambda: published)
    assert (published, states()) == ([made.beat_name], ["failed", "failed", "sent"])
    [run] = ScheduleRun.objects.filter(schedule_id=made.pk)
    assert BeatSend.objects.filter(state="sent").get().scheduled_for == run.scheduled_for
    assert scheduler.tick() > 0


def test_a_claim_that_is_not_settled_yet_is_settled_before_the_next(
    beat: Any, published: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    made, scheduler = due(), beat()
    with monkeypatch.context() as patched:

        def refuse(*_: object) -> None:
            raise psycopg.OperationalError("gone")

        patched.setattr(gates.Journal, "settle", refuse)
        tick_until(scheduler, lambda: published)
    assert (published, states()) == ([made.beat_name], ["claimed"])
    other = due()
    tick_until(scheduler, lambda: len(published) == 2)
    assert (published, states()) == ([made.beat_name, other.beat_name], ["sent", "sent"])


def test_a_claim_whose_answer_is_lost_is_not_refused_to_its_own_beat(
    beat: Any, published: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    made, scheduler, lost = due(), beat(), []
    claim = gates.Journal.claim

    def lose(*args: Any, **kwargs: Any) -> Any:
        answer = claim(*args, **kwargs)
        if not lost:
            lost.append(answer)
            raise psycopg.OperationalError("the connection broke at the commit")
        return answer

    monkeypatch.setattr(gates.Journal, "claim", lose)
    tick_until(scheduler, lambda: published)
    assert (published, states()) == ([made.beat_name], ["sent"])


def test_what_is_claimed_and_not_sent_when_beat_stops_is_given_back(beat: Any, published: list[str]) -> None:
    made, scheduler = due(), beat()
    entry = scheduler.schedule[made.beat_name]
    assert scheduler.is_due(entry)[0]
    assert states() == ["claimed"]
    scheduler.close()
    assert (published, states()) == ([], ["failed"])
    assert not ScheduleRun.objects.exists()


@pytest.mark.parametrize("asked", ["last_change", "enabled"])
def test_a_stop_waits_for_what_beat_asks_its_database(
    beat: Any, asked: str, handled: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    scheduler, reached = beat(), []
    owner = PeriodicTasks if asked == "last_change" else type(PeriodicTask.objects)
    answer = getattr(owner, asked)

    def stop(*arguments: Any) -> Any:
        if not reached:
            signal.raise_signal(signal.SIGTERM)
            reached.append(not handled)
        return answer(*arguments)

    monkeypatch.setattr(owner, asked, stop)
    with pytest.raises(SystemExit):
        scheduler.all_as_schedule() if asked == "enabled" else scheduler.schedule_changed()
    assert (reached, handled) == ([True], [signal.SIGTERM])


def test_celerys_own_cleanup_is_sent_whatever_the_database_says(beat: Any, app: Celery, published: list[str]) -> None:
    app.conf.result_expires = 3600
    scheduler = beat()
    owe("celery.backend_cleanup")
    with elsewhere("LOCK TABLE scheduler_beatsend, scheduler_pgperiodicschedule IN ACCESS EXCLUSIVE MODE"):
        tick_until(scheduler, lambda: published)
    assert published == ["celery.backend_cleanup"]


def test_what_beats_row_says_of_when_it_is_due_counts_more_than_a_stale_mirror(beat: Any, published: list[str]) -> None:
    made = due()
    PgPeriodicSchedule.objects.filter(pk=made.pk).update(cron_string="0 0-23 2 2 *")
    tick_until(beat(), lambda: published)
    occurrence = BeatSend.objects.get().scheduled_for
    assert occurrence is not None
    assert (occurrence.month, occurrence.day) == (1, 1)


def test_in_observe_mode_it_asks_nothing(beat: Any, settings: Any, published: list[str]) -> None:
    made = due()
    PgPeriodicSchedule.objects.filter(pk=made.pk).update(firer="pg")
    settings.SCHEDULER = {"BEAT_MODE": "observe"}
    scheduler = beat()
    observer.start(scheduler)
    tick_until(scheduler, lambda: published)
    observer.stop()
    assert states() == ["sent"]
    assert api.BeatProcess.objects.get().mode == "observe"


def test_the_entry_point_by_which_celery_finds_the_class_names_it() -> None:
    project = tomllib.loads((Path(__file__).resolve().parents[3] / "pyproject.toml").read_text())["project"]
    module, _, name = project["entry-points"]["celery.beat_schedulers"]["downbeat"].partition(":")
    assert getattr(import_module(module), name) is DownbeatScheduler


def test_claims_of_a_beat_that_is_gone_are_unknown(beat: Any) -> None:
    made, scheduler = due(), beat()
    scheduler.is_due(scheduler.schedule[made.beat_name])
    deadline = time.monotonic() + 60
    while not api.live_beats().exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert list(api.unknown_sends()) == []
    observer.stop()
    assert list(api.live_beats()) == []
    assert [noted.beat_name for noted in api.unknown_sends()] == [made.beat_name]
