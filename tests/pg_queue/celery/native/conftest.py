"""A Celery app of the tests' own, and messages for its tasks."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
from celery import Celery, _state, current_app, signals

from pg_queue.celery.envelope import Envelope, write_envelope
from pg_queue.celery.execution import processes
from pg_queue.domain import Failure, Message, MessageState
from pg_queue.tasks import registry

_others = set(_state._on_app_finalizers)
from tests.pg_queue.celery.native import tasks  # noqa: E402 - what it shares is told apart from what others have

_SHARED = _state._on_app_finalizers - _others
_state._on_app_finalizers -= _SHARED
"""Apps of other tests do not get them: a worker of threads refuses to start where a task has a time limit."""
for _app in _state._get_active_apps():
    for _name in [name for name in _app.tasks if name.startswith("native.")] if _app.finalized else []:
        _app.tasks.pop(_name)


def with_tasks(app: Celery) -> Celery:
    """The app, with the tasks of `tasks`."""
    app.finalize()
    for add in _SHARED:
        add(app)
    return app


@pytest.fixture(autouse=True)
def app(monkeypatch: pytest.MonkeyPatch) -> Iterator[Celery]:
    """The project's app in this test, with the tasks of `tasks`: no broker, no result backend."""
    before = current_app._get_current_object()
    registry.tasks()  # discovered before, not into the copy
    monkeypatch.setattr(registry, "_celery", {})
    monkeypatch.setattr(processes, "_begun", set())
    monkeypatch.setattr(_state, "default_app", _state.default_app)  # our worker sets it
    made = with_tasks(Celery("native", set_as_current=False))
    made.set_current()
    tasks.seen.clear()
    yield made
    before.set_current()
    made.close()


def ours(task: str, *args: Any, **fields: Any) -> Message:
    """A message of Downbeat's own, as a worker has claimed it."""
    now = datetime.now(UTC)
    given = {
        "id": uuid.uuid4(),
        "kwargs": {},
        "queue": "default",
        "priority": 5,
        "attempts": 1,
        "max_attempts": 3,
        "headers": {},
        **fields,
    }
    return Message(
        task=task,
        args=list(args),
        state=MessageState.RUNNING,
        run_after=now,
        enqueued_at=now,
        started_at=now,
        finished_at=None,
        organization_id="",
        worker="host:1:2",
        **given,
    )


def sent(task: str, *args: Any, embed: Any = None, headers: Any = None, **fields: Any) -> Message:
    """A message that Celery has sent, as a worker has claimed it."""
    task_id = str(fields.pop("id", uuid.uuid4()))
    envelope = Envelope(
        headers={"id": task_id, "task": task, "root_id": task_id, **(headers or {})},
        args=list(args),
        kwargs=fields.pop("kwargs", {}),
        embed=embed or {},
    )
    new = write_envelope(envelope, queue="default")
    given = {
        "id": new.id or uuid.uuid4(),
        "kwargs": dict(new.kwargs),
        "headers": dict(new.headers),
        "max_attempts": new.max_attempts,
    }
    return ours(task, *args, **{**given, **fields})


def lost(kind: str, text: str = "it was lost") -> dict[str, Any]:
    """The fields of a message whose first execution has ended so."""
    return {"attempts": 2, "error": Failure(type=kind, message=text)}


@contextmanager
def noted(*names: str) -> Iterator[list[str]]:
    """The names of the signals that were sent inside the block, in order."""
    found: list[str] = []
    with ExitStack() as stack:
        for name in names:
            note, signal = _noting(found, name), getattr(signals, name)
            signal.connect(note, weak=False)
            stack.callback(signal.disconnect, note)
        yield found


def _noting(found: list[str], signal_name: str) -> Callable[..., None]:
    def note(**_: Any) -> None:
        found.append(signal_name)

    return note
