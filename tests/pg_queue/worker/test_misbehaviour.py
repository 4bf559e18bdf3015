"""What becomes of tasks that raise, hang, exit, crash or return nonsense: one worker runs them all, and lives on."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import psutil
import pytest

from pg_queue.domain import Message, MessageState
from tests.pg_queue.worker.conftest import ProcessQueue, process_queue
from tests.processes import Manage, copied_database

pytestmark = pytest.mark.processes

CASES: dict[str, tuple[Any, ...]] = {
    "adds": ("test.add", 2, 3),
    "raises": ("test.raise", "because"),
    "gives_up": ("test.give_up",),
    "retries_later": ("test.retry_later",),
    "exits": ("test.exit", 3),
    "sys_exits": ("test.sys_exit",),
    "crashes": ("test.crash",),
    "hangs": ("test.hang",),
    "unknown": ("test.unheard_of",),
    "wrong_arguments": ("test.add", 1),
    "celery": ("test.celery", "hello"),
    "celery_retry": ("test.celery_retry",),
    "returns_tuple": ("test.returns", "tuple"),
    **{
        f"returns_{what}": ("test.returns", what)
        for what in ("datetime", "set", "nan", "nul", "surrogate", "large", "huge_number", "huger_number", "deep")
    },
    "forks": ("test.forks",),
    "closes_files": ("test.closes_files",),
    "meddles": ("test.meddles",),
    "reports_another": ("test.reports_another",),
    "prints": ("test.prints",),
    "interrupts": ("test.interrupts",),
    "starts_threads": ("test.starts_threads",),
    "raises_strangely": ("test.raises_strangely",),
}


@pytest.fixture(scope="module")
def outcomes(process_template: str, django_db_blocker: Any) -> Iterator[dict[str, Message]]:
    """The outcome of every case, from one worker that is alive at the end and stops with 0."""
    with copied_database(os.environ["DATABASE_URL"], process_template, "misbehaviour") as database:
        manage = Manage(database.url)
        try:
            with process_queue(database, manage, django_db_blocker) as queue:
                yield run_all(queue)
        finally:
            manage.clean_up()


ONE_ATTEMPT = {
    *("forks", "closes_files", "meddles", "reports_another", "prints", "interrupts", "starts_threads"),
    *("raises_strangely", "exits", "sys_exits", "crashes", "hangs", "unknown", "wrong_arguments"),
}


def run_all(queue: ProcessQueue) -> dict[str, Message]:
    ids = {
        name: queue.add(task, *args, max_attempts=1 if name in ONE_ATTEMPT else 2)
        for name, (task, *args) in CASES.items()
    }
    worker = queue.worker("--concurrency", "2", RETRY_BACKOFF_SECONDS=0)
    found = {name: queue.outcome(message_id) for name, message_id in ids.items()}
    assert worker.stop() == 0, worker.output
    return found


def test_a_result_is_kept(outcomes: dict[str, Message]) -> None:
    message = outcomes["adds"]
    assert (message.state, message.result, message.attempts) == (MessageState.SUCCEEDED, 5, 1)


def test_a_task_that_raises_is_retried_until_its_attempts_are_used_up(outcomes: dict[str, Message]) -> None:
    message = outcomes["raises"]
    assert (message.state, message.attempts) == (MessageState.FAILED, 2)
    assert message.error is not None
    assert (message.error.type, message.error.message) == ("ValueError", "because")
    assert "raise ValueError(text)" in message.error.traceback


def test_a_task_that_gives_up_is_not_retried(outcomes: dict[str, Message]) -> None:
    message = outcomes["gives_up"]
    assert (message.state, message.attempts) == (MessageState.FAILED, 1)
    assert message.error is not None
    assert message.error.message == "hopeless"


def test_a_task_that_asks_for_a_retry_gets_it(outcomes: dict[str, Message]) -> None:
    assert (outcomes["retries_later"].result, outcomes["retries_later"].attempts) == ("attempt 2", 2)


@pytest.mark.parametrize(
    ("case", "kind", "said"),
    [
        ("exits", "worker.exited", "exited with code 3"),
        ("crashes", "worker.exited", "SIGSEGV"),
        ("hangs", "worker.time_limit", "0.5 s"),
        ("closes_files", "worker.exited", "the process that ran it"),
        ("meddles", "worker.exited", "the process that ran it"),
        ("reports_another", "worker.exited", "the process that ran it"),
        ("sys_exits", "SystemExit", "5"),
        ("interrupts", "KeyboardInterrupt", "by hand"),
        ("unknown", "worker.unknown_task", "test.unheard_of"),
        ("wrong_arguments", "TypeError", "right"),
    ],
)
def test_a_task_that_ends_badly_fails_and_says_how(
    outcomes: dict[str, Message], case: str, kind: str, said: str
) -> None:
    message = outcomes[case]
    assert (message.state, message.attempts) == (MessageState.FAILED, 1)
    assert message.error is not None
    assert message.error.type == kind
    assert said in message.error.message


@pytest.mark.parametrize(
    ("case", "kind"),
    [
        ("returns_datetime", "task.result_not_json"),
        ("returns_set", "task.result_not_json"),
        ("returns_nan", "task.result_not_json"),
        ("returns_nul", "task.result_not_json"),
        ("returns_surrogate", "task.result_not_json"),
        ("returns_deep", "task.result_not_json"),
        ("returns_huger_number", "task.result_not_json"),
        ("returns_large", "task.result_too_large"),
    ],
)
def test_a_result_that_cannot_be_kept_is_final_at_once(outcomes: dict[str, Message], case: str, kind: str) -> None:
    message = outcomes[case]
    assert (message.state, message.attempts) == (MessageState.FAILED, 1)
    assert message.error is not None
    assert message.error.type == kind


def test_a_result_comes_back_as_json_has_it(outcomes: dict[str, Message]) -> None:
    assert outcomes["returns_tuple"].result == [1, {"a": [2]}]
    assert outcomes["returns_huge_number"].result == 10**4000


@pytest.mark.parametrize(("case", "result"), [("forks", "parent"), ("prints", 3000), ("starts_threads", "started")])
def test_what_a_task_does_to_its_process_is_no_matter(outcomes: dict[str, Message], case: str, result: Any) -> None:
    assert (outcomes[case].state, outcomes[case].result) == (MessageState.SUCCEEDED, result)


def test_an_error_that_cannot_be_shown_is_kept_all_the_same(outcomes: dict[str, Message]) -> None:
    error = outcomes["raises_strangely"].error
    assert error is not None
    assert error.type.endswith("Strange\\x00\\ud800")
    assert "SystemExit" in error.message


def test_a_celery_task_runs_unchanged_with_its_request(outcomes: dict[str, Message]) -> None:
    message = outcomes["celery"]
    assert message.result == {
        "value": "hello",
        "id": str(message.id),
        "retries": 0,
        "queue": "default",
        "called_directly": False,
    }


def test_a_celery_tasks_own_retry_is_the_queues(outcomes: dict[str, Message]) -> None:
    assert (outcomes["celery_retry"].result, outcomes["celery_retry"].attempts) == (1, 2)


def test_what_a_killed_task_has_started_is_killed_with_it(outcomes: dict[str, Message]) -> None:
    assert outcomes["hangs"].error is not None
    commands = [" ".join(process.info["cmdline"] or []) for process in psutil.process_iter(["cmdline"])]
    assert [command for command in commands if str(outcomes["hangs"].id) in command] == []
