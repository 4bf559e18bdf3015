"""1,000 runs while schedulers and a worker are killed at random: each occurrence once in the ledger, each run executed.

`make soak` does the same with 30,000.
"""

from __future__ import annotations

import random
import time

import pytest

from tests.processes import Manage, RunningProcess
from tests.scheduler.processes.test_failover import (
    FIRED,
    SOON,
    add_every_second,
    assert_each_second_accounted_for_once,
    wait_until,
)
from tests.scheduler.rows import Rows

pytestmark = [pytest.mark.processes, pytest.mark.long, pytest.mark.timeout(600)]

SETTINGS = {"DJANGO_SETTINGS_MODULE": "tests.scheduler.processes.settings", "DOWNBEAT_LOG_LEVEL": "WARNING"}
COMMANDS = {
    "first scheduler": ("run_scheduler",),
    "second scheduler": ("run_scheduler",),
    "worker": ("run_worker", "--queues", "default", "--concurrency", "1"),
}
EVER_FIRED = "SELECT count(*) FROM scheduler_schedulerun WHERE fired_at IS NOT NULL"


@pytest.mark.parametrize("wanted", [1_000, pytest.param(30_000, marks=[pytest.mark.soak, pytest.mark.timeout(3_600)])])
def test_every_occurrence_is_accounted_for_once_and_every_run_executed_under_random_kills(
    manage: Manage, rows: Rows, wanted: int
) -> None:
    seed = random.randrange(10**6)
    print(f"seed {seed}")  # noqa: T201 - shown when the test fails
    chance = random.Random(seed)
    running = {name: manage(*command, env=SETTINGS) for name, command in COMMANDS.items()}
    for process in running.values():
        process.wait_for_line("^started ")
    add_every_second(rows, 50)
    wait_until(lambda: rows.count(FIRED) > 0, SOON, "the first fire")

    kills = 0
    while rows.count(EVER_FIRED) < wanted or kills < 3:  # a machine that stalls fires them in larger portions
        name = chance.choice(list(running))
        running[name].kill(group=True)
        kills += 1
        time.sleep(chance.uniform(0.1, 1.5))  # the fault itself: how long it stays away
        running[name] = start_again(manage, name)
    rows.session.execute("UPDATE scheduler_pgperiodicschedule SET enabled = false")

    wait_until(lambda: rows.count("SELECT count(*) FROM pg_queue_message") == 0, 240, "every message is run")
    wait_until(lambda: rows.count(FIRED) == 0, 90, "every outcome is in the ledger")
    assert rows.count("SELECT count(*) FROM scheduler_schedulerun WHERE state NOT IN ('succeeded', 'coalesced')") == 0
    ran = rows.count("SELECT count(*) FROM pg_queue_result JOIN scheduler_schedulerun ON id = message_id")
    assert ran == rows.count("SELECT count(*) FROM scheduler_schedulerun WHERE state = 'succeeded'")
    assert ran == rows.count("SELECT count(*) FROM pg_queue_result")
    assert_each_second_accounted_for_once(rows)


def start_again(manage: Manage, name: str) -> RunningProcess:
    """Start the process that was killed, and wait until it is up."""
    process = manage(*COMMANDS[name], env=SETTINGS)
    process.wait_for_line("^started ")
    return process
