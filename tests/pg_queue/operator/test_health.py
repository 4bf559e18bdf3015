"""`manage.py workers` and `manage.py queue_health` on a store of its own."""

from __future__ import annotations

import io
import json
from datetime import timedelta
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import override_settings

from pg_queue.domain import Death, Failure, NewMessage, Settlement
from pg_queue.process import ExitCode
from pg_queue.settings import queue_settings
from pg_queue.storage import store

pytestmark = pytest.mark.django_db(transaction=True, available_apps=["pg_queue"])


def run(command: str, *arguments: str) -> str:
    out = io.StringIO()
    call_command(command, *arguments, stdout=out, stderr=io.StringIO())
    return out.getvalue()


def refused(command: str, *arguments: str) -> tuple[int, str]:
    """Exit code and reason."""
    with pytest.raises(CommandError) as raised:
        run(command, *arguments)
    return raised.value.returncode, str(raised.value)


def announce(*names: str, queues: tuple[str, ...] = ("default",)) -> None:
    for name in names:
        store().workers.announce(name, host="h", process_id=1, queues=queues, concurrency=2)


def enqueue(count: int, queue: str = "default") -> None:
    store().enqueue([NewMessage(task="noop", queue=queue) for _ in range(count)])


def let_pass(seconds: int) -> None:
    """For leases, heartbeats and what waits."""
    with connection.cursor() as cursor:
        for table, column in (("message", "run_after"), ("message", "lease_until"), ("worker", "heartbeat_at")):
            cursor.execute(f"UPDATE pg_queue_{table} SET {column} = {column} - make_interval(secs => %s)", [seconds])


class TestWorkers:
    def shown(self, *arguments: str) -> dict[str, str]:
        lines = run("workers", "--json", *arguments).splitlines()
        return {row["id"]: row["state"] for row in map(json.loads, lines)}

    def test_active_and_stale_ones_are_shown_and_those_that_stopped_only_when_asked_for(self) -> None:
        announce("frozen")
        let_pass(100)
        announce("busy", "gone", "other")
        store().workers.sign_off("gone", finished=3, failed=1)
        assert self.shown() == {"busy": "active", "other": "active", "frozen": "stale"}
        assert self.shown("--all")["gone"] == "stopped"
        assert self.shown("--stale-seconds", "1000")["frozen"] == "active"
        text = run("workers")
        assert "busy" in text
        assert "stale" in text

    def test_too_few_that_are_active_for_a_queue_are_an_exit_code(self) -> None:
        announce("a", "b")
        announce("c", queues=("mails", "default"))
        run("workers", "--require", "3")
        run("workers", "--queue", "mails", "--require", "1")
        code, reason = refused("workers", "--queue", "mails", "--require", "2")
        assert (code, reason) == (ExitCode.UNHEALTHY, "workers: expected at least 2 active, got: 1")

    def test_what_no_duration_is_is_refused(self) -> None:
        code, reason = refused("workers", "--stale-seconds", "nan")
        assert code == ExitCode.USAGE
        assert reason.startswith("--stale-seconds: expected a number of seconds above 0")
        assert refused("workers", "--store", "nowhere")[0] == ExitCode.USAGE


class TestQueueHealth:
    def asked(self, *arguments: str) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(run("queue_health", "--json", *arguments))
        return answer

    def test_each_queues_figures_its_workers_and_its_limit_are_shown(self) -> None:
        announce("a", "b")
        enqueue(2)
        with override_settings(PG_QUEUE={"RATE_LIMITS": {"mails": "6/m burst 3"}}):
            store().limits.take("mails", queue_settings().limits["mails"], wanted=3)
            answer = self.asked()
            assert "6/60s burst 3" in run("queue_health")
        assert (answer["healthy"], answer["reaper_lag_seconds"], answer["problems"]) == (True, 0, [])
        default, mails = answer["queues"]
        assert (default["queue"], default["waiting"], default["workers"], default["limit"]) == ("default", 2, 2, None)
        assert (mails["queue"], mails["waiting"], mails["workers"]) == ("mails", 0, 0)
        assert 0 < mails["limit_wait_seconds"] <= 10

    @pytest.mark.parametrize(
        ("flags", "problem"),
        [
            (["--max-waiting", "1"], "default: expected waiting at most 1, got: 2"),
            (["--max-oldest-seconds", "60"], "default: expected oldest_due_seconds at most 60, got: "),
            (["--max-dead", "0"], "default: expected dead at most 0, got: 1"),
            (["--min-workers", "2"], "default: expected workers at least 2, got: 1"),
            (["--queue", "empty", "--min-workers", "1"], "empty: expected workers at least 1, got: 0"),
        ],
    )
    def test_a_figure_beyond_its_threshold_is_named_and_an_exit_code(self, flags: list[str], problem: str) -> None:
        enqueue(1)
        (claim,) = store().claim(queues=["default"], limit=1, lease=timedelta(seconds=600), worker="w")
        death = Death(failure=Failure(type="E", message="no"))
        store().settle([Settlement(message_id=claim.message.id, token=claim.token, outcome=death)])
        enqueue(2)
        let_pass(100)
        announce("a")
        run(
            "queue_health",
            "--max-waiting",
            "2",
            "--max-oldest-seconds",
            "1000",
            "--max-dead",
            "1",
            "--min-workers",
            "1",
        )
        code, reason = refused("queue_health", *flags)
        assert code == ExitCode.UNHEALTHY
        assert reason.startswith(problem)

    def test_a_lease_that_nobody_takes_back_shows_that_no_reaper_is_at_work(self) -> None:
        enqueue(1)
        store().claim(queues=["default"], limit=1, lease=timedelta(seconds=10), worker="w")
        let_pass(50)
        assert self.asked()["reaper_lag_seconds"] == pytest.approx(40, abs=10)
        code, reason = refused("queue_health", "--max-reaper-lag-seconds", "20")
        assert code == ExitCode.UNHEALTHY
        assert reason.startswith("reaper: expected no lease that ran out more than 20 s ago, got: ")
        store().expire_claims(limit=10)
        assert self.asked("--max-reaper-lag-seconds", "20")["healthy"]

    def test_the_answer_in_json_says_what_is_wrong_too(self) -> None:
        enqueue(1)
        out = io.StringIO()
        with pytest.raises(CommandError):
            call_command("queue_health", "--json", "--max-waiting", "0", stdout=out)
        answer = json.loads(out.getvalue())
        assert (answer["healthy"], len(answer["problems"])) == (False, 1)

    def test_what_no_queue_is_called_is_refused(self) -> None:
        assert refused("queue_health", "--queue", "a b")[0] == ExitCode.USAGE
