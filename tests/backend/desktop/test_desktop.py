"""Desktop mode: one process that fires, runs and answers, and that may be killed at any moment."""

from __future__ import annotations

import random
import sqlite3
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from typing import Any

import psutil
import pytest

from tests.backend.desktop.conftest import Desktop
from tests.pg_queue.worker.conftest import until

pytestmark = [pytest.mark.processes, pytest.mark.timeout(600)]

Start = Callable[..., Desktop]
UNDER_WAY = {"fired", "running"}
NOT_FIRED = {"coalesced", "expired"}
"""Due while it was dead, and made up for by a later one or too late."""
KILLS = 5


def every_second(desktop: Desktop, name: str) -> str:
    """A new schedule; its id."""
    body = {"name": name, "task": "echo", "kind": "interval", "expression": "PT1S", "kwargs": {"from": name}}
    return str(desktop.ask("schedules/", body)["id"])


def runs(desktop: Desktop, schedule: str) -> list[dict[str, Any]]:
    """The schedule's latest runs."""
    found: list[dict[str, Any]] = desktop.ask(f"runs/?schedule={schedule}")["results"]
    return found


def rows(desktop: Desktop, query: str, *parameters: object) -> list[tuple[Any, ...]]:
    """What the file holds."""
    with closing(sqlite3.connect(desktop.data_dir / "desktop.sqlite3", timeout=20)) as connection:
        return connection.execute(query, parameters).fetchall()


def test_one_process_serves_fires_and_runs_and_stops_on_sigterm(
    start: Start, record_property: Callable[[str, object], None]
) -> None:
    desktop = start()
    record_property("seconds from the first start to the banner", desktop.wait_until_ready())
    schedule = every_second(desktop, "tick")
    until(lambda: any(run["state"] == "succeeded" for run in runs(desktop, schedule)), what="a run that succeeded")
    (done, *_) = [run for run in runs(desktop, schedule) if run["state"] == "succeeded"]
    status = desktop.ask(f"messages/{done['id']}/")
    assert (status["state"], status["result"]) == ("succeeded", {"args": [], "kwargs": {"from": "tick"}})
    assert psutil.Process(desktop.process.pid).children() == []
    assert desktop.process.stop(timeout=60) == 0
    assert "Traceback" not in desktop.process.output, desktop.process.output
    again = start()
    record_property("seconds from a later start to the banner", again.wait_until_ready())
    assert again.process.stop(timeout=60) == 0


def test_killed_at_random_moments_it_loses_nothing_and_doubles_nothing(start: Start) -> None:
    desktop = start()
    desktop.wait_until_ready()
    schedule = every_second(desktop, "tick")
    for _ in range(KILLS):
        seen = len(runs(desktop, schedule))
        until(lambda seen=seen, desktop=desktop: len(runs(desktop, schedule)) > seen, what="another run")
        time.sleep(random.random())  # not what is waited for, but when the kill comes
        desktop.process.kill()
        desktop = start()
        desktop.wait_until_ready()
    desktop.ask(f"schedules/{schedule}/pause/", {})
    key = schedule.replace("-", "")
    ledger = "SELECT scheduled_for, state FROM scheduler_schedulerun WHERE schedule_id = ?"
    until(lambda: not UNDER_WAY & {state for _, state in rows(desktop, ledger, key)}, 60, "every run to have ended")
    found = rows(desktop, ledger, key)
    assert max(Counter(at for at, _ in found).values()) == 1, "an occurrence is there twice"
    assert {state for _, state in found} <= {"succeeded", *NOT_FIRED}
    assert sum(state == "succeeded" for _, state in found) >= KILLS
    assert rows(desktop, "PRAGMA integrity_check") == [("ok",)]


def test_a_second_one_on_the_same_data_is_refused_and_the_first_goes_on(start: Start) -> None:
    first = start()
    first.wait_until_ready()
    second = start()
    assert second.process.wait() == 1
    assert f"already runs on {first.data_dir} (pid {first.process.pid})" in second.process.stderr
    assert first.ask("schedules/")["results"]


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"DOWNBEAT_MODE": "laptop"}, "DOWNBEAT_MODE: expected server or desktop, got: 'laptop'"),
        ({"DATABASE_URL": "postgres://u:secret@h/d"}, "DATABASE_URL: expected sqlite:////path"),
        ({"PORT": "none"}, "PORT: expected a number from 1 to 65535, got: 'none'"),
    ],
)
def test_what_cannot_be_is_refused_by_name(start: Start, environment: dict[str, str], said: str) -> None:
    refused = start(**environment)
    assert refused.process.wait() == 1
    assert said in refused.process.stderr
    assert "secret" not in refused.process.output
