"""What every long-running command shares: how it refuses what it cannot serve, and how it exits."""

from __future__ import annotations

import json
import socket

import pytest

from tests.pg_queue.worker.conftest import worker_environment
from tests.processes import Manage, ProcessDatabase

pytestmark = pytest.mark.processes

COMMANDS = ("run_worker", "run_reaper", "run_scheduler")


@pytest.mark.parametrize("command", COMMANDS)
def test_a_health_port_that_is_taken_exits_with_2_and_names_the_option(manage: Manage, command: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        process = manage.run(command, "--health-port", str(port), env=worker_environment())
    assert process.returncode == 2, process.output
    assert "--health-port: expected a port that this process may listen on" in process.stderr
    assert f"got: {port}" in process.stderr
    assert "Traceback" not in process.stderr
    assert "started" not in process.stdout


@pytest.mark.parametrize(
    "host",
    [
        "nowhere.invalid",
        "no..name",
        "192.0.2.1",  # of RFC 5737: nobody's
        "::1",
    ],
)
def test_a_health_host_that_is_not_this_machine_exits_with_2_and_names_the_option(manage: Manage, host: str) -> None:
    process = manage.run("run_reaper", "--health-port", "0", "--health-host", host, env=worker_environment())
    assert process.returncode == 2, process.output
    assert "--health-host: expected " in process.stderr
    assert f"got: {host!r}" in process.stderr
    assert "Traceback" not in process.stderr


@pytest.mark.parametrize("command", ["run_reaper", "run_scheduler"])
def test_once_exits_with_6_where_a_duty_failed_and_does_the_others(
    manage: Manage, process_database: ProcessDatabase, command: str
) -> None:
    with process_database.connect() as session:
        session.execute("ALTER TABLE pg_queue_worker RENAME TO pg_queue_worker_away")
        session.execute(
            "INSERT INTO pg_queue_result (message_id, state, task, queue, priority, organization_id, headers, attempts,"
            " max_attempts, run_after, enqueued_at, expires_at) VALUES (gen_random_uuid(), 'succeeded', 'noop',"
            " 'default', 5, '', '{}', 1, 1, '2026-01-01', '2026-01-01', '2026-01-02')"
        )
    process = manage.run(command, "--once", "--json", env=worker_environment())
    assert process.returncode == 6, process.output
    assert "duties failed: forget_workers (ProgrammingError: " in process.stderr
    rounds = {line["duty"]: line for line in map(json.loads, process.stdout.splitlines()) if line["event"] == "round"}
    assert "pg_queue_worker" in rounds["forget_workers"]["error"]
    assert rounds["retain_outcomes"]["rows"] == 1
