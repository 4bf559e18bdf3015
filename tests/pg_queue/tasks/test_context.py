"""What a task sees of its execution, and what it may say of it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from pg_queue import api
from pg_queue.api import TaskContext, task
from pg_queue.domain import Message, Retry, Success
from pg_queue.tasks.context import Progress, cancellation, reporter
from pg_queue.worker.execution import outcome_of
from tests.pg_queue.tasks.working import running, stored, work

if TYPE_CHECKING:
    from decimal import Decimal

pytestmark = pytest.mark.django_db

Told = list[tuple[Message, Progress]]


@pytest.fixture
def told() -> Iterator[Told]:
    """What a pool is told, by message."""
    found: Told = []
    token = reporter.set(lambda message, progress: found.append((message, progress)))
    yield found
    reporter.reset(token)


def test_a_task_is_given_its_context_by_annotation_and_its_signature_is_without_it() -> None:
    @task("test.context")
    def tells(context: TaskContext, word: str, *, times: int = 1) -> list[Any]:
        assert api.current_context() == context
        return [
            word * times,
            str(context.id),
            context.task,
            context.queue,
            context.attempt,
            context.remaining_attempts,
            context.headers,
            context.organization_id,
        ]

    message = running(
        "test.context",
        "a",
        kwargs={"times": 2},
        queue="mail",
        attempts=2,
        headers={"trace": "t"},
        organization_id="acme",
    )
    expected = ["aa", str(message.id), "test.context", "mail", 2, 1, {"trace": "t"}, "acme"]
    assert outcome_of(message) == Success(value=expected)
    assert api.get_task("test.context").signature == "(word: 'str', *, times: 'int' = 1) -> 'list[Any]'"
    assert api.current_context() is None


def test_an_async_task_is_given_it_too() -> None:
    @task("test.context")
    async def tells(context: TaskContext, word: str) -> str:
        return f"{word} {context.attempt}"

    assert outcome_of(running("test.context", "a")) == Success(value="a 1")


def test_annotations_that_are_for_type_checkers_only_do_no_harm() -> None:
    @task("test.context")
    def tells(context: api.TaskContext, price: Decimal) -> int:
        return context.attempt

    assert outcome_of(running("test.context", 1)) == Success(value=1)


def test_a_context_anywhere_but_first_is_refused() -> None:
    with pytest.raises(ValueError, match=r"expected TaskContext as the type of the first parameter alone, got: 'own'"):

        @task("test.context")
        def tells(word: str, own: TaskContext) -> None:
            """Do nothing."""


@pytest.mark.parametrize("countdown", [7, timedelta(seconds=7)])
def test_a_retry_is_after_its_countdown_and_names_the_error_that_was_handled(countdown: Any) -> None:
    @task("test.context")
    def retries(context: TaskContext) -> None:
        try:
            raise LookupError("busy")
        except LookupError:
            context.retry(countdown=countdown)

    outcome = outcome_of(running("test.context"))
    assert isinstance(outcome, Retry)
    assert (outcome.delay, outcome.failure.type) == (timedelta(seconds=7), "LookupError")


def test_a_retry_without_a_countdown_is_after_the_tasks_backoff() -> None:
    @task("test.context", retry_backoff_seconds=40, retry_jitter=0)
    def retries(context: TaskContext) -> None:
        context.retry(reason="the other side is asleep")

    outcome = outcome_of(running("test.context"))
    assert isinstance(outcome, Retry)
    assert outcome.delay == timedelta(seconds=40)
    assert outcome.failure.message == "the other side is asleep"


@pytest.mark.django_db(transaction=True, available_apps=["pg_queue"])
def test_what_fails_by_its_own_word_is_never_retried() -> None:
    @task("test.context", max_attempts=9)
    def fails(context: TaskContext) -> None:
        context.fail("the order is gone")

    message_id = api.enqueue("test.context")
    work()
    message = stored(message_id)
    assert (message.state, message.attempts) == (api.MessageState.FAILED, 1)
    assert message.error is not None
    assert message.error.message == "the order is gone"


def test_progress_is_told_to_the_pool(told: Told) -> None:
    @task("test.context")
    def works(context: TaskContext) -> None:
        context.progress(0.25)
        context.progress(3, 4, stage="loading")

    message = running("test.context")
    outcome_of(message)
    assert told == [
        (message, Progress(done=0.25, total=1, stage="")),
        (message, Progress(done=3, total=4, stage="loading")),
    ]
    assert [progress.fraction for _, progress in told] == [0.25, 0.75]


def test_progress_that_nobody_listens_to_is_no_error() -> None:
    TaskContext(running("noop")).progress(1, 2, stage="alone")


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ((2, 1), "done"),
        ((-1, 1), "done"),
        ((math.nan, 1), "done"),
        (("1", 2), "done"),
        ((True,), "done"),
        ((0, 0), "total"),
        ((0, math.inf), "total"),
        ((1, 1, "x" * 201), "stage"),
        ((1, 1, "\x00"), "stage"),
        ((1, 1, 5), "stage"),
    ],
)
def test_senseless_progress_is_refused_by_name(arguments: Any, field: str, told: Told) -> None:
    *numbers, stage = arguments if len(arguments) == 3 else (*arguments, "")
    with pytest.raises(api.InvalidMessage) as caught:
        TaskContext(running("noop")).progress(*numbers, stage=stage)
    assert caught.value.field == field
    assert told == []


def test_a_long_loop_learns_that_it_is_cancelled_from_its_pool() -> None:
    @task("test.context")
    def loops(context: TaskContext) -> int:
        return next(count for count in range(100) if context.is_cancelled())

    message, asked = running("test.context"), []

    def ask(one: Message) -> bool:
        asked.append(one.id)
        return len(asked) > 5

    token = cancellation.set(ask)
    assert outcome_of(message) == Success(value=5)
    cancellation.reset(token)
    assert set(asked) == {message.id}
    assert not TaskContext(message).is_cancelled()
