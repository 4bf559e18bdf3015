"""The scheduler's tests once more on SQLite: the same files, in a process of its own whose `DATABASE_URL` is a file."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.processes import ROOT, child_environment, sqlite_url

CONSOLE = (
    *("api/test_schedules.py", "api/test_runs.py", "api/test_preview.py", "api/test_pipelines.py"),
    *("admin/test_schedules.py", "admin/test_timeline.py", "admin/test_queue.py", "pipelines/test_csv.py"),
)
SUITES = {
    "tick": (["tests/scheduler/tick"], 115),
    "ledger": (["tests/scheduler/ledger"], 10),
    "forecast": (["tests/scheduler/forecast"], 20),
    "schedules": (["tests/scheduler/schedules"], 250),
    "console": ([f"tests/backend/{name}" for name in CONSOLE], 200),
}
"""Paths, and how many must pass at least: so that it is noticed when a suite runs on SQLite no more."""
LONG = {"forecast", "schedules", "console"}
"""Left to `make soak`: they are about what is in front of the tick, and take minutes."""
MAY_SKIP = "PostgreSQL only: "


@pytest.mark.processes
@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "suite", [pytest.param(suite, marks=[pytest.mark.soak] if suite in LONG else []) for suite in SUITES]
)
def test_the_suite_holds_on_sqlite_and_skips_only_what_is_postgresqls_alone(
    suite: str, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    paths, least = SUITES[suite]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *paths]
    finished = subprocess.run(
        command,
        cwd=ROOT,
        env=child_environment(sqlite_url(tmp_path / "run.sqlite3")),
        capture_output=True,
        text=True,
        check=False,
        timeout=540,
    )
    assert finished.returncode == 0, finished.stdout[-8000:]
    skipped = re.findall(r"^SKIPPED \[(\d+)\] \S+ (.*)$", finished.stdout, re.MULTILINE)
    assert [reason for _, reason in skipped if not reason.startswith(MAY_SKIP)] == []
    counted = re.search(r"(\d+) passed", finished.stdout)
    assert counted is not None
    assert int(counted[1]) >= least
    record_property(f"passed on SQLite, {sum(int(count) for count, _ in skipped)} skipped", int(counted[1]))
    for count, reason in skipped:
        record_property(f"skipped on SQLite: {reason.removeprefix(MAY_SKIP)}", int(count))
