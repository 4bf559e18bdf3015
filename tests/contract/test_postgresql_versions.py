"""The database's part of the work, once more on the oldest PostgreSQL that this machine has installed.

The run itself is on the embedded PostgreSQL 18; SQL that only 18 understands, or plans well, would pass there.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from backend.standalone.postgres import EmbeddedPostgres
from backend.standalone.provider import InstalledPostgres
from tests.processes import ROOT, child_environment

OLDEST_SUPPORTED, NEWEST_EMBEDDED = 15, 18
SUITES = [
    "tests/contract",
    "tests/pg_queue/leader/test_election.py",
    "tests/pg_queue/test_turns.py",
    "tests/scheduler/ledger",
    "tests/scheduler/tick",
]
ELSEWHERE = ["tests/contract/results", "tests/contract/test_restart.py", "tests/contract/test_postgresql_versions.py"]
"""What has servers of its own, and is no matter of the database that the run is on."""
SOAKED = [
    *(f"tests/contract/test_{name}.py" for name in ("model", "processes", "cuts", "fairness", "locks", "limits")),
    *(f"tests/scheduler/tick/test_{name}.py" for name in ("both_databases", "complaints", "slowness")),
    "tests/pg_queue/leader/test_election.py",
]
"""What takes minutes, and is left to `make soak`: it is in every run on the newest PostgreSQL."""
OF_POSTGRESQL = "not sqlite and not redis and not mongodb"
"""Leaves the contract's other stores out."""


def installed() -> dict[int, Path]:
    """Folders of programs by major version, where Debian's packages put them."""
    folders = Path("/usr/lib/postgresql").glob("*/bin")
    majors = {int(folder.parent.name): folder for folder in folders if folder.parent.name.isdecimal()}
    return {major: folder for major, folder in majors.items() if OLDEST_SUPPORTED <= major < NEWEST_EMBEDDED}


@pytest.mark.services("postgresql")
@pytest.mark.processes
@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "left_out", [pytest.param(SOAKED, id="daily"), pytest.param([], id="whole", marks=pytest.mark.soak)]
)
def test_store_election_ledger_and_tick_hold_on_the_oldest_installed_postgresql(
    left_out: list[str], record_property: Callable[[str, object], None]
) -> None:
    majors = installed()
    if not majors:
        absent = f"absent: an installed PostgreSQL from {OLDEST_SUPPORTED} to {NEWEST_EMBEDDED - 1}"
        pytest.fail(absent) if os.environ.get("REQUIRE_SERVICES") == "1" else pytest.skip(absent)
    major = min(majors)
    server = EmbeddedPostgres.ephemeral(provider=InstalledPostgres(majors[major], major=major))
    try:
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", OF_POSTGRESQL, *SUITES]
        command += [f"--ignore={path}" for path in [*ELSEWHERE, *left_out]]
        environment = child_environment(server.start())
        finished = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=840
        )
    finally:
        server.discard()
    assert finished.returncode == 0, f"on PostgreSQL {major}:\n{finished.stdout[-8000:]}"
    counted = re.search(r"^postgres +(\d+) +0 +(\d+)  ", finished.stdout, re.MULTILINE)
    assert counted is not None, finished.stdout[-8000:]
    record_property(f"of the contract's behaviours passed on PostgreSQL {major}", int(counted[1]))
    assert int(counted[1]) > 100
