"""Tasks of the API, for the tests. Imported when `TASKS` is set: see `conftest.jobs`."""

from __future__ import annotations

import asyncio
import contextvars
import math
import os
import sys
from typing import Any

from django.db import transaction

from pg_queue.api import GiveUp, RetryLater, current_message
from tests.pg_queue.tasks.django.api import TaskContext, task, task_with

mood: contextvars.ContextVar[str] = contextvars.ContextVar("mood", default="fresh")


@task
def nothing(*args: Any, **kwargs: Any) -> None:
    """Return None, whatever it is given."""


@task()
async def nothing_async(*args: Any, **kwargs: Any) -> None:
    """The same, as a coroutine function."""
    await asyncio.sleep(0)


@task(priority=-7, queue_name="queue_1")
def echo(value: Any) -> Any:
    """Return what it is given."""
    return value


@task
async def add(left: int, right: int) -> int:
    """Return the sum, after a turn of the loop."""
    await asyncio.sleep(0)
    return left + right


@task
def pair() -> Any:
    """Return what JSON has no word for, and can hold all the same."""
    return ({"bytes": b"abc", 1: ("a", "b")}, range(2))


@task
def thing() -> Any:
    """Return what JSON cannot hold."""
    return object()


@task
def no_number() -> float:
    """Return what the API takes for JSON, and PostgreSQL does not."""
    return math.nan


@task
def break_down(kind: str) -> None:
    """Raise an exception of this kind."""
    if kind == "system exit":
        sys.exit("told to go")
    if kind == "interrupt":
        raise KeyboardInterrupt("told to stop")
    raise ValueError("no good") from LookupError("nothing there")


@task(backend="retrying")
def retried(kind: str) -> None:
    """The same, of a backend that tries again."""
    break_down.call(kind)


@task_with(backend="retrying", never_on=(ValueError,))
def particular(kind: str) -> None:
    """The same, and says of which error it is no use."""
    break_down.call(kind)


@task
def break_down_oddly() -> None:
    """Raise an exception that holds what no JSON could."""
    raise ValueError(LookupError("within"), object)


@task
def ask_for_more() -> None:
    """Ask to be run again."""
    raise RetryLater("not yet", delay_seconds=0)


@task
def give_up() -> None:
    """Say that it is no use."""
    raise GiveUp("no use") from OSError("gone")


@task(takes_context=True)
def who(context: TaskContext, greeting: str) -> list[Any]:
    """Return what the context says."""
    result = context.task_result
    return [greeting, context.attempt, result.id, str(result.status), result.args, len(result.worker_ids)]


@task(takes_context=True)
async def who_async(context: TaskContext) -> str:
    """The id by the context, if it is the message's."""
    message = current_message()
    assert message is not None
    assert str(message.id) == context.task_result.id
    return context.task_result.id


@task
def change_mood() -> str:
    """Return the mood that it finds, and leave another."""
    found = mood.get()
    mood.set("spoilt")
    return found


@task
def stay_in_transaction() -> None:
    """Return from inside of a transaction."""
    transaction.atomic().__enter__()


@task
def process_id() -> int:
    """The id of the process that runs it."""
    return os.getpid()


def plain() -> None:
    """No task."""


@task
def _hidden() -> None:
    """A task that no name leads to."""


renamed = _hidden
del _hidden
