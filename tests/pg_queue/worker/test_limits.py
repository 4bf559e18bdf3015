"""What limits a child process and the tasks in it: soft and hard time limits, executions, memory."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator

import pytest

from pg_queue.domain import MessageState
from tests.pg_queue.worker.conftest import ProcessQueue, is_gone, process_queue, until
from tests.pg_queue.worker.test_worker import Served
from tests.processes import Manage, copied_database

pytestmark = pytest.mark.processes


@pytest.fixture(scope="module")
def served(process_template: str, django_db_blocker: pytest.FixtureRequest) -> Iterator[Served]:
    """A worker of one child that is replaced often."""
    with copied_database(os.environ["DATABASE_URL"], process_template, "limited") as database:
        manage = Manage(database.url)
        try:
            with process_queue(database, manage, django_db_blocker) as queue:
                worker = queue.worker(
                    *("--concurrency", "1", "--max-tasks-per-child", "25", "--max-memory-per-child", "250"),
                    *("--health-port", "0"),
                )
                yield Served(queue=queue, worker=worker)
                assert worker.stop() == 0, worker.output
        finally:
            manage.clean_up()


def test_a_child_is_replaced_after_its_last_execution_and_nothing_is_lost_or_run_twice(served: Served) -> None:
    queue = served.queue
    ids = [queue.add("test.process") for _ in range(120)]
    ended = [queue.outcome(message_id) for message_id in ids]
    assert {(m.state, m.attempts) for m in ended} == {(MessageState.SUCCEEDED, 1)}
    executions = Counter(m.result for m in ended)
    assert max(executions.values()) == 25
    assert len(executions) >= 5
    served.worker.wait_for_line(r"worker.child_ended pid=\d+ why=tasks")


def test_a_child_that_has_grown_too_large_is_replaced_and_begins_nothing_more(served: Served) -> None:
    queue = served.queue
    queue.outcome(queue.add("noop"))
    ids = [queue.add("noop") for _ in range(30)]
    large = queue.add("test.grows", 300)
    behind = [queue.add("test.process") for _ in range(30)]
    process = queue.outcome(large).result
    ended = [queue.outcome(message_id) for message_id in behind]
    assert {(m.state, m.attempts) for m in ended} == {(MessageState.SUCCEEDED, 1)}
    assert process not in {m.result for m in ended}
    assert {queue.outcome(message_id).attempts for message_id in ids} == {1}
    until(lambda: is_gone(process), what="the large one to end")
    served.worker.wait_for_line(rf"worker.child_too_large pid={process} megabytes=[34]\d\d")
    served.worker.wait_for_line(rf"worker.child_ended pid={process} why=memory")


def test_a_soft_limit_raises_in_the_task_which_may_tidy_up_and_return(served: Served) -> None:
    message = served.queue.outcome(served.queue.add("test.tidies"))
    assert (message.state, message.result) == (
        MessageState.SUCCEEDED,
        "it ran longer than its soft time limit of 0.3 s",
    )


@pytest.mark.parametrize(
    ("task", "kind", "where"),
    [
        ("test.waits_for_limit", r"pg_queue\.errors\.SoftTimeLimitExceeded", "nobody.recv"),
        ("test.coroutine", r"pg_queue\.errors\.SoftTimeLimitExceeded", ""),
        ("test.stays", r"worker\.time_limit", ""),
    ],
)
def test_what_lets_the_request_to_end_pass_has_failed_and_what_stays_is_killed(
    served: Served, task: str, kind: str, where: str
) -> None:
    message = served.queue.outcome(served.queue.add(task, max_attempts=1))
    assert message.error is not None
    assert message.state is MessageState.FAILED
    assert re.fullmatch(kind, message.error.type)
    assert where in message.error.traceback


def test_a_celery_task_is_asked_to_end_by_celerys_own_error(served: Served) -> None:
    assert served.queue.outcome(served.queue.add("test.celery_tidies")).result == "tidied"


def test_a_soft_limit_of_the_settings_counts_where_the_task_has_none(queue: ProcessQueue) -> None:
    queue.worker("--concurrency", "1", TASK_SOFT_TIME_LIMIT_SECONDS=0.3)
    held = queue.outcome(queue.add("test.waits", max_attempts=1))
    assert held.error is not None
    assert held.error.type == "pg_queue.errors.SoftTimeLimitExceeded"
