"""What a task sends while our worker runs it needs a broker: without one, say so at once, and what to set."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from celery import Celery

from pg_queue.celery.execution.tracing import is_native
from pg_queue.errors import CanvasRefused
from pg_queue.tasks.following import sending

_guarded: set[int] = set()


def guard(app: Celery) -> None:
    """Refuse, in our executions, to send to a broker that nobody has named. Does nothing the second time."""
    if id(app) not in _guarded:
        _guarded.add(id(app))
        vars(app.amqp)["send_task_message"] = _checked(app, app.amqp.send_task_message)


def send_chords_at_once(backend: Any) -> None:
    """What a result backend sends when a chord is complete is enqueued then and there, not at the message's end.

    The backend takes it for sent, and will not send it again. Does nothing the second time.
    """
    if "on_chord_part_return" not in vars(backend):
        vars(backend)["on_chord_part_return"] = _sending(backend.on_chord_part_return)


def _sending(part_return: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(part_return)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        with sending():
            return part_return(*args, **kwargs)

    return wrapped


def _checked(app: Celery, send: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(send)
    def checked(producer: Any, name: str, *args: Any, **kwargs: Any) -> Any:
        if is_native() and (got := _nowhere(app)):
            raise CanvasRefused(
                f"task {name!r}: expected a broker to send it to (CELERY_BROKER_URL = 'downbeat://'), got: {got}"
            )
        return send(producer, name, *args, **kwargs)

    return checked


def _nowhere(app: Celery) -> str:
    """Why nobody would ever get what is sent; empty: somebody does."""
    url = app.conf.broker_write_url or app.conf.broker_transport
    if not url:
        return "none (Celery's default, amqp://, is not taken for a choice)"
    is_memory = str(url).partition(":")[0] == "memory"
    return f"{url}, which ends with the process" if is_memory else ""
