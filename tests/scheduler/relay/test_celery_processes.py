"""Schedules fired for a stock Celery worker, over real brokers, while processes and brokers are killed."""

from __future__ import annotations

import json
import random
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.test import override_settings

from scheduler.tick import make_tick
from tests.processes import Manage, ProcessDatabase
from tests.scheduler.processes.test_failover import wait_until
from tests.scheduler.relay.brokers import APP, EACH_BROKER, IN_SHORT, SOON, TOPIC, Broker, OwnRedis, Project, broker_at
from tests.scheduler.rows import Rows, lead

pytestmark = [pytest.mark.processes, pytest.mark.long, pytest.mark.timeout(600)]

NOON = datetime(2026, 3, 10, 12, 0, tzinfo=UTC)
STATES = "SELECT count(*) FROM scheduler_schedulerun WHERE state NOT IN ('relayed', 'coalesced')"


@pytest.fixture
def broker(request: pytest.FixtureRequest) -> Iterator[Broker]:
    """The one whose URL the test is parametrized with."""
    with broker_at(request.param) as made:
        yield made


@pytest.fixture
def project(manage: Manage, rows: Rows, tmp_path: Path, broker: Broker) -> Project:
    """A project on that broker."""
    return Project(manage, rows, tmp_path, broker)


each_broker = pytest.mark.parametrize("broker", EACH_BROKER, indirect=True)
in_short = pytest.mark.parametrize("broker", IN_SHORT, indirect=True)
"""What kills processes for a while: on one broker each time, on the other in `make soak`."""


@each_broker
def test_a_stock_worker_executes_each_occurrence_under_the_runs_id(project: Project, rows: Rows) -> None:
    worker, scheduler = project.start_worker(), project.start_scheduler()
    scheduler.wait_for_line("^leader", SOON)
    project.add_every_second(3, priority=7)
    wait_until(lambda: len(project.notes()) >= 12, SOON, "the worker executes")
    project.stop_firing()
    project.wait_until_relayed()
    wait_until(lambda: set(project.executed()) >= project.fired(), SOON, "all are executed")

    assert set(project.executed()) == project.fired()
    assert set(project.executed().values()) == {1}
    assert rows.count(STATES) == 0
    runs = {str(run["id"]): run for run in rows.runs()}
    for note in project.notes():
        run = runs[note["id"]]
        assert note["schedule_id"] == str(run["schedule_id"])
        assert (note["args"], note["kwargs"]) == (["a"], {"b": 1})
        assert run["fired_at"] <= run["relayed_at"]
    assert (scheduler.stop(), worker.stop()) == (0, 0)


@each_broker
def test_one_pass_sends_what_it_has_fired(project: Project, rows: Rows) -> None:
    schedule_id = rows.add_interval(3600, task="proj.note", queue="default")
    rows.session.execute("UPDATE scheduler_pgperiodicschedule SET next_run_at = now()")
    once = project.manage.run("run_scheduler", "--once", env=project.environment)
    assert once.returncode == 0, once.output
    assert f"relayed topic={TOPIC} sent=1 deferred=0" in once.stdout
    (run,) = rows.runs(schedule_id)
    assert run["state"] == "relayed"
    assert dict(project.broker.arrived()) == {str(run["id"]): 1}


@in_short
def test_every_occurrence_is_executed_while_the_leader_is_killed_at_random(project: Project, rows: Rows) -> None:
    chance = random.Random(seed := random.randrange(10**6))
    print(f"seed {seed}")  # noqa: T201 - shown when the test fails
    project.start_worker()
    project.add_every_second(20)
    for _ in range(8):
        scheduler = project.start_scheduler()
        scheduler.wait_for_line("^leader", SOON)
        time.sleep(chance.uniform(0.0, 1.5))  # the fault itself: the moment of the kill
        scheduler.kill(group=True)
    project.start_scheduler()
    project.stop_firing()
    project.wait_until_relayed()
    wait_until(lambda: set(project.executed()) >= project.fired(), SOON, "all are executed")

    assert set(project.executed()) == project.fired()
    assert len(project.fired()) > 100
    assert rows.count(STATES) == 0


def fire_many(database: ProcessDatabase, rows: Rows, count: int, routes: Any, **settings: Any) -> set[str]:
    """So many occurrences fired at once, and routed away: their ids."""
    rows.add_many(count, NOON)
    conf = {**django_settings.PG_QUEUE, **settings, "ROUTES": routes}
    with override_settings(PG_QUEUE=conf), lead(database) as leadership:
        assert make_tick(leadership).run(at=NOON + timedelta(seconds=1)).fired == count
    return {str(run["id"]) for run in rows.runs()}


def kill_relays(
    manage: Manage,
    rows: Rows,
    environment: dict[str, str],
    kills: int,
    meanwhile: Callable[[], None] = lambda: None,
) -> None:
    """Relays, one after the other, each killed at a random moment; the last one lives. `meanwhile` is done half-way."""
    chance = random.Random(seed := random.randrange(10**6))
    print(f"seed {seed}")  # noqa: T201 - shown when the test fails
    argv = [sys.executable, "-m", "tests.scheduler.relay.relaying"]
    for number in range(kills):
        if number == kills // 2:
            meanwhile()
        relay = manage.launch(argv, env=environment)
        relay.wait_for_line("^relaying", SOON)
        time.sleep(chance.uniform(0.0, 0.4))  # the fault itself: the moment of the kill
        relay.kill(group=True)
    last = manage.launch(argv, env=environment)
    last.wait_for_line("^relaying", SOON)
    wait_until(lambda: rows.count("SELECT count(*) FROM pg_queue_event") == 0, SOON, f"all is relayed:\n{last.output}")


@in_short
def test_every_occurrence_arrives_at_the_broker_however_often_the_relay_is_killed(
    project: Project, rows: Rows, process_database: ProcessDatabase, record_property: Any
) -> None:
    fired = fire_many(process_database, rows, 3000, {"*": {"CELERY": APP}})
    kill_relays(project.manage, rows, project.environment, kills=12)
    arrived = project.broker.arrived()
    assert set(arrived) == fired
    assert rows.count(STATES) == 0
    record_property("messages arrived twice under 12 kills", arrived.total() - len(arrived))


def test_a_broker_that_is_away_holds_up_nothing_and_gets_everything_when_it_is_back(
    manage: Manage, rows: Rows, tmp_path: Path
) -> None:
    own = OwnRedis(manage, tmp_path)
    own.start()
    project = Project(manage, rows, tmp_path, Broker(own.url), ROUTES={"default": {"CELERY": APP}})
    scheduler = project.start_scheduler("--health-port", "0")
    port = scheduler.wait_for_line(r"health_port=(\d+)", SOON)[1]
    project.add_every_second(2)
    project.add_every_second(2, queue="here")
    wait_until(lambda: relayed(rows), SOON, "the broker takes what is fired")

    own.kill()
    before = len(rows.messages())
    scheduler.wait_for_line(f"relay.unavailable topic={TOPIC}", SOON)
    wait_until(lambda: len(rows.messages()) >= before + 6, SOON, "what stays here is fired as ever")
    wait_until(lambda: rows.count("SELECT count(*) FROM pg_queue_event") >= 6, SOON, "what leaves waits")
    ready = json.load(urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz"))
    assert ready["status"] == "ready"
    assert ready["relay"][TOPIC]["error"]
    metrics = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics").read().decode()
    assert f'downbeat_outbox_events{{topic="{TOPIC}"}}' in metrics
    assert f'downbeat_relay_deferred_total{{topic="{TOPIC}"}}' in metrics

    own.start()
    scheduler.wait_for_line(f"relay.recovered topic={TOPIC}", SOON)
    project.stop_firing()
    project.wait_until_relayed()
    assert set(project.broker.arrived()) == relayed(rows)
    assert relayed(rows) | {str(message["id"]) for message in rows.messages()} == project.fired()


def relayed(rows: Rows) -> set[str]:
    return {str(run["id"]) for run in rows.runs() if run["state"] == "relayed"}
