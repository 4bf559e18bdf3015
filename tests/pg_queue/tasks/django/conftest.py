"""`TASKS` with a few backends, the tasks, and a worker in this process that works off what is due."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from importlib import import_module
from types import ModuleType
from typing import Any

import pytest

from pg_queue.domain import Settlement
from pg_queue.storage import store
from pg_queue.tasks.django import resolution
from pg_queue.worker import execution
from tests.pg_queue.tasks.django.api import FLAVOUR
from tests.pg_queue.tasks.django.entries import JOBS, TASKS

QUEUES = ("default", "queue_1")

Work = Callable[..., int]


@pytest.fixture(autouse=True)
def jobs(settings: Any, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module of the tasks, declared for the backends above."""
    settings.TASKS = TASKS
    for name in ("_found", "_declared"):
        monkeypatch.setattr(resolution, name, type(getattr(resolution, name))(getattr(resolution, name)))
    return import_module(JOBS)


@pytest.fixture(autouse=True)
def _keep_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """As Django's test client does: the connection is in the test's transaction, which would go with it."""
    monkeypatch.setattr(execution, "close_old_connections", lambda: None)


@pytest.fixture
def work() -> Work:
    """Executes what is due, as a worker does; returns how many executions that were."""

    def run(namespace: str = "") -> int:
        place, count = store().within(namespace) if namespace else store(), 0
        while claims := place.claim(queues=QUEUES, limit=10, lease=timedelta(60), worker="host:1:2"):
            outcomes = [(claim, execution.outcome_of(claim.message)) for claim in claims]
            place.settle([Settlement(message_id=c.message.id, token=c.token, outcome=o) for c, o in outcomes])
            count += len(claims)
        return count

    return run


@pytest.fixture
def heard() -> Iterator[list[tuple[str, type[Any], Any]]]:
    """The signals that are sent: the name's end, the sender, the status at that moment."""
    sent: list[tuple[str, type[Any], Any]] = []
    receivers = []
    for name in ("enqueued", "started", "finished"):

        def hear(sender: type[Any], task_result: Any, name: str = name, **_: Any) -> None:
            sent.append((name, sender, str(task_result.status)))

        getattr(FLAVOUR.signals, f"task_{name}").connect(hear)
        receivers.append((name, hear))
    yield sent
    for name, hear in receivers:
        getattr(FLAVOUR.signals, f"task_{name}").disconnect(hear)
