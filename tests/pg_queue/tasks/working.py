"""A worker that is one function call: claims what is due, runs it here, settles it."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

from pg_queue import api
from pg_queue.domain import Claim, Message, MessageState, Settled, Settlement
from pg_queue.worker.execution import outcome_of

LEASE = timedelta(seconds=60)


def claimed(queue: str = "default", limit: int = 10) -> list[Claim]:
    """What is due, held."""
    return api.store().claim(queues=[queue], limit=limit, lease=LEASE, worker="here:1:1")


def work(queue: str = "default") -> list[Settled]:
    """Run what is due, once each."""
    settlements = [
        Settlement(message_id=claim.message.id, token=claim.token, outcome=outcome_of(claim.message))
        for claim in claimed(queue)
    ]
    return list(api.store().settle(settlements).values())


def stored(message_id: uuid.UUID) -> Message:
    """The message as it is now."""
    return api.get_messages([message_id])[message_id]


def running(task: str, *args: Any, **fields: Any) -> Message:
    """A message as a worker is given it, which no store has."""
    now = datetime.now(UTC)
    given: dict[str, Any] = {
        "id": uuid.uuid4(),
        "args": list(args),
        "kwargs": {},
        "queue": "default",
        "priority": 5,
        "state": MessageState.RUNNING,
        "attempts": 1,
        "max_attempts": 3,
        "run_after": now,
        "enqueued_at": now,
        "started_at": now,
        "finished_at": None,
        "headers": {},
        "organization_id": "",
    }
    return Message(task=task, **{**given, **fields})
