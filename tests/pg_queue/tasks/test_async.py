"""Tasks that are `async def`, in a pool that runs one task per thread."""

from __future__ import annotations

import asyncio
import threading

import pytest
from asgiref.sync import sync_to_async
from django.db import connection, connections

from pg_queue import api
from pg_queue.domain import Retry, Success
from pg_queue.models import Worker
from pg_queue.tasks import execute_async
from pg_queue.worker.execution import outcome_of
from tests.pg_queue.tasks.working import running


@pytest.mark.django_db
def test_an_async_task_runs_to_its_end_and_sees_its_message() -> None:
    @api.task("test.async")
    async def double(value: int) -> list[object]:
        await asyncio.sleep(0)
        message = api.current_message()
        return [value * 2, str(message.id) if message else None]

    message = running("test.async", 21)
    assert api.get_task("test.async").is_async
    assert outcome_of(message) == Success(value=[42, str(message.id)])
    assert asyncio.run(execute_async(message)) == [42, str(message.id)]
    assert api.current_message() is None


@pytest.mark.django_db
def test_what_it_raises_is_its_failure() -> None:
    @api.task("test.async")
    async def fail() -> None:
        await asyncio.sleep(0)
        raise KeyError("gone")

    outcome = outcome_of(running("test.async"))
    assert isinstance(outcome, Retry)
    assert outcome.failure.type == "KeyError"
    assert "in fail" in outcome.failure.traceback


@pytest.mark.django_db(transaction=True, available_apps=["pg_queue"])
def test_its_database_calls_have_a_thread_of_their_own_that_leaves_no_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    threads: list[threading.Thread] = []
    closed: list[str] = []

    def note() -> None:
        threads.append(threading.current_thread())
        close = connection.close
        monkeypatch.setattr(connections["default"], "close", lambda: (closed.append("default"), close()))

    @api.task("test.async")
    async def counts() -> int:
        await sync_to_async(note)()
        return await Worker.objects.acount()

    assert outcome_of(running("test.async")) == Success(value=0)
    assert threads[0] is not threading.current_thread()
    assert closed == ["default"]
    assert not threads[0].is_alive()
