"""A pipeline and its schedule changed by two at once, on real sessions: in turn, without a deadlock."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
from django.db import connection

from backend.pipelines.models import Organization, Pipeline
from scheduler import api
from tests.processes import LOCKED_HERE

pytestmark = pytest.mark.django_db(transaction=True)

HOLD_PIPELINE = "SELECT id FROM pipelines_pipeline WHERE id = %s FOR UPDATE"
WAITING = f"""
    SELECT count(DISTINCT pid) FROM pg_locks
    WHERE NOT granted AND pid IN (SELECT pid FROM pg_locks WHERE {LOCKED_HERE})
"""


@pytest.fixture(params=["pg", "beat"])
def pipeline(request: pytest.FixtureRequest, settings: Any) -> Pipeline:
    """A stored pipeline whose schedule this firer fires."""
    settings.SCHEDULER = {**settings.SCHEDULER, "DEFAULT_FIRER": request.param}
    Organization.objects.get_or_create(slug="default", defaults={"name": "Default"})  # flushed by other tests
    made = Pipeline(name="Load", expression="0 3 * * *")
    made.save()
    assert api.get_schedule(made.pk).firer == request.param
    return made


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as pool:
        yield pool


@pytest.fixture
def session(threads: ThreadPoolExecutor) -> Iterator[psycopg.Connection[Any]]:
    """Another session on the same database, in a transaction; closed before the threads that wait for it are joined."""
    parameters = connection.get_connection_params() | {"cursor_factory": psycopg.Cursor}
    with psycopg.connect(**parameters) as other:
        yield other


def beside(threads: ThreadPoolExecutor, work: Callable[[], Any]) -> Future[Any]:
    """Run `work` in a thread, on a connection of its own."""

    def run() -> Any:
        try:
            return work()
        finally:
            connection.close()

    return threads.submit(run)


def await_waiting(session: psycopg.Connection[Any], count: int) -> None:
    """Return when so many sessions wait for a lock; fail after 60 s."""
    pause = threading.Event()
    for _ in range(6000):
        if session.execute(WAITING).fetchone()[0] >= count:  # type: ignore[index]
            return
        pause.wait(0.01)
    pytest.fail(f"expected {count} sessions that wait")


@pytest.mark.parametrize(
    "change",
    [lambda pk: api.pause_schedule(pk, reason="now"), lambda pk: api.update_schedule(pk, timezone="Asia/Tokyo")],
)
@pytest.mark.parametrize("act", [lambda pipeline: pipeline.save(), lambda pipeline: pipeline.delete()])
def test_a_pipeline_and_its_schedule_are_changed_in_turn(pipeline, session, threads, act, change):
    pk, pipeline.name = pipeline.pk, "Renamed"
    session.execute(HOLD_PIPELINE, [pk])  # so that the pipeline's side stops half-way
    first = beside(threads, lambda: act(pipeline))
    await_waiting(session, 1)
    second = beside(threads, lambda: change(pk))
    await_waiting(session, 2)
    session.commit()
    assert first.exception(60) is None
    if Pipeline.objects.filter(name="Renamed").exists():
        assert second.result(60).pipeline_name == "Renamed"
        stored, schedule = Pipeline.objects.get(), api.get_schedule(pk)
        assert (stored.name, stored.active, stored.timezone) == ("Renamed", schedule.enabled, schedule.timezone)
    else:
        assert isinstance(second.exception(60), api.ScheduleNotFound)
        assert not api.PgPeriodicSchedule.objects.exists()
    assert not api.MirrorFailure.objects.exists()


def test_saved_by_two_at_once_a_pipeline_without_a_schedule_gets_one(pipeline, session, threads):
    api.delete_schedule(pipeline.pk)
    session.execute(HOLD_PIPELINE, [pipeline.pk])
    saved = [beside(threads, Pipeline.objects.get(pk=pipeline.pk).save) for _ in range(2)]
    await_waiting(session, 2)
    session.commit()
    assert [future.exception(60) for future in saved] == [None, None]
    assert api.PgPeriodicSchedule.objects.get().pk == pipeline.pk
