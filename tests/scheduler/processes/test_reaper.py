"""The ledger's upkeep where the schedulers leave it to a reaper of its own."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from tests.processes import Manage
from tests.scheduler.rows import Rows

pytestmark = pytest.mark.processes


def test_a_reaper_carries_outcomes_into_the_ledger_where_no_scheduler_reaps(manage: Manage, rows: Rows) -> None:
    rows.add(cron_string="0 0 1 1 *", next_run_at=datetime.now(UTC), task="noop", args="[]", kwargs="{}")
    for command in (["run_scheduler", "--no-reaper"], ["run_worker"]):
        process = manage.run(*command, "--once")
        assert process.returncode == 0, process.output
    assert [run["state"] for run in rows.runs()] == ["fired"]

    process = manage.run("run_reaper", "--once", "--json")
    assert process.returncode == 0, process.output
    assert [run["state"] for run in rows.runs()] == ["succeeded"]
    rounds = {line["duty"]: line for line in map(json.loads, process.stdout.splitlines()) if line["event"] == "round"}
    assert rounds["write_back"]["rows"] == 1
    assert rounds.keys() >= {
        "add_ledger_months",
        "drop_ledger_months",
        "forget_unplaced_runs",
        "forget_mirror_failures",
    }
