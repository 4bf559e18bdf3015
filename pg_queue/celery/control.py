"""Commands that Celery broadcasts to its workers, as far as our store can carry them out by itself.

`revoke` alone: what waits is cancelled where it waits, so no worker need be there, and none of them has to remember it.
Workers of Celery's get the command as ever, and see to what they have taken.
"""

from __future__ import annotations

import json
import logging
import uuid
from collections.abc import Iterable, Mapping
from typing import Any

from celery import current_app, signals
from celery.app.task import Context

from pg_queue.celery.envelope import is_raw, read_envelope
from pg_queue.domain import Message, MessageState
from pg_queue.ports import QueueStore

logger = logging.getLogger(__name__)

PIDBOX = ".pidbox"
"""What the name of the exchange ends with that kombu sends commands to."""


def note_command(store: QueueStore, exchange: str, body: str | bytes) -> None:
    """Carry out what was just broadcast through `exchange`, where it is a command for us. Nonsense is no command."""
    if not exchange.endswith(PIDBOX):
        return
    try:
        command = json.loads(body)
        method, arguments = command["method"], command["arguments"]
    except (ValueError, TypeError, KeyError):
        return
    if method == "revoke" and isinstance(arguments, Mapping):
        revoke(store, arguments.get("task_id"), is_terminating=bool(arguments.get("terminate")))


def revoke(store: QueueStore, task_ids: object, *, is_terminating: bool = False) -> set[uuid.UUID]:
    """Cancel the messages of these task ids that wait, with `is_terminating` also those that run; the ids of those.

    Celery's result backend, a chord that waits for them and receivers of `task_revoked` are told. The process that runs
    one is killed when its worker learns that it has lost the claim: at its next renewal.
    """
    found = store.get(_uuids(task_ids))
    states = {MessageState.WAITING} | ({MessageState.RUNNING} if is_terminating else set())
    cancelled = store.cancel([one.id for one in found.values() if one.state in states], reason="revoked")
    for message_id in cancelled:
        try:
            _tell(found[message_id], is_terminating)
        except Exception:  # a backend that does not answer: the message is cancelled all the same
            logger.exception("celery.revoked_untold message=%s", message_id)
    return cancelled


def _tell(message: Message, is_terminating: bool) -> None:
    if is_raw(message):
        return
    app, envelope = current_app, read_envelope(message)
    said = {**envelope.headers, **envelope.embed, "delivery_info": {}}
    request: Any = Context(said, args=envelope.args, kwargs=envelope.kwargs)
    is_running = is_terminating and message.state is MessageState.RUNNING
    reason = "terminated" if is_running else "revoked"
    app.backend.mark_as_revoked(request.id, reason, request=request, store_result=not request.ignore_result)
    task = app.tasks.get(message.task)
    signals.task_revoked.send(sender=task, request=request, terminated=is_running, signum=None, expired=False)


def _uuids(task_ids: object) -> list[uuid.UUID]:
    """Those that are ids of rows: a row has the task's where that is a UUID."""
    given: Iterable[object] = task_ids if isinstance(task_ids, list | tuple | set) else [task_ids]
    found = []
    for one in given:
        try:
            found.append(uuid.UUID(str(one)))
        except ValueError:
            continue
    return found
