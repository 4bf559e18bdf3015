"""`make run`, whole: the real services on a fresh data directory, used and broken as a newcomer would."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psycopg
import pytest

from backend.pipelines import demo
from backend.standalone.ports import free_port
from backend.standalone.postgres import EmbeddedPostgres
from backend.standalone.remnants import end_marked, read_record
from tests.backend.standalone.test_run import everything_of, still_running
from tests.processes import RunningProcess, child_environment

pytestmark = [pytest.mark.processes, pytest.mark.timeout(600)]


def get(credentials: dict[str, str], path: str) -> Any:
    """The JSON that the API answers to the user of `credentials`."""
    request = urllib.request.Request(
        f"{credentials['url']}{path}", headers={"Authorization": f"Token {credentials['token']}"}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def run(credentials: dict[str, str], schedule_id: object) -> None:
    """Run a schedule by hand."""
    url = f"{credentials['url']}/api/v1/schedules/{schedule_id}/run/"
    headers = {"Authorization": f"Token {credentials['token']}", "Content-Type": "application/json"}
    urllib.request.urlopen(urllib.request.Request(url, b"{}", headers, method="POST"), timeout=60).close()


def let_beat_believe_that_it_owes(url: str, schedule_id: object) -> None:
    """As if a minute had passed since the schedule was switched off."""
    with psycopg.connect(url) as session:
        session.execute(
            "UPDATE django_celery_beat_periodictask SET last_run_at = now() - interval '90 seconds' WHERE name = %s",
            [str(schedule_id)],
        )


def await_run(credentials: dict[str, str], states: set[str], seconds: float) -> float:
    """Return once the API shows a run in one of these states; `time.monotonic()` of then."""
    deadline = time.monotonic() + seconds
    while not any(run["state"] in states for run in get(credentials, "/api/v1/runs/")["results"]):
        assert time.monotonic() < deadline, f"no run was {' or '.join(sorted(states))} in time"
        time.sleep(0.1)
    return time.monotonic()


def await_comparison(credentials: dict[str, str], cause: str, seconds: float) -> None:
    """Return once the comparison has matches, and names this cause."""
    deadline = time.monotonic() + seconds
    found: Any = None
    while found is None or not found["verdicts"]["match"] or cause not in found["causes"]:
        assert time.monotonic() < deadline, f"no match, or no {cause}, in time: {found}"
        time.sleep(0.5)
        found = get(credentials, "/api/v1/comparison/")


def test_a_newcomer_sees_runs_succeed_kills_the_leader_and_stops_it_all(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    data_dir = tmp_path / "data"
    inherited = {name: text for name, text in child_environment(None).items() if name != "DATABASE_URL"}
    process = RunningProcess(
        [sys.executable, "-m", "backend.standalone"],
        env=inherited | {"DATA_DIR": str(data_dir), "PORT": str(free_port())},
    )
    try:
        leader = process.wait_for_line(r"Leader +(sched-\d), pid (\d+), term (\d+)", timeout=180)
        process.wait_for_line(rf"try a failover: kill -9 {leader[2]}$")
        credentials = json.loads((data_dir / "credentials.json").read_text())
        assert credentials["password"] in process.output
        seconds = await_run(credentials, {"fired", "running", "succeeded"}, seconds=120) - process.started_at
        record_property("seconds until the first fired run was visible", round(seconds, 1))
        await_run(credentials, {"succeeded"}, seconds=120)
        with pytest.raises(urllib.error.HTTPError, match="401"):
            get({**credentials, "token": "wrong"}, "/api/v1/runs/")

        let_beat_believe_that_it_owes(EmbeddedPostgres(data_dir).url, demo.identity(demo.BEATS_FAULT))
        run(credentials, demo.identity("beat-switch"))

        seen = len(process.lines)
        os.kill(int(leader[2]), signal.SIGKILL)
        successor = process.wait_for_line(r"Leader +(sched-\d), pid (\d+), term (\d+)", timeout=90, after=seen)
        assert int(successor[3]) > int(leader[3])
        assert successor[2] != leader[2]
        process.wait_for_line(rf"{leader[1]} \(pid {leader[2]}\) was ended by SIGKILL; starting it again", after=seen)

        await_comparison(credentials, "re_enable_burst", seconds=240)
        assert not re.search(r"^(beat|celery) .*(ERROR|CRITICAL)", process.output, re.MULTILINE)
        everything = everything_of(data_dir)
        assert process.stop(timeout=120) == 0
        assert still_running(everything) == []
        assert not re.search("did not stop|SIGKILL", "\n".join(process.output.partition("stopping:")[2:]))
    finally:
        secret = str(read_record(data_dir).get("secret", ""))
        with ExitStack() as last:
            last.callback(EmbeddedPostgres(data_dir).discard)
            last.callback(end_marked, secret, grace_seconds=0)
            process.clean_up()
