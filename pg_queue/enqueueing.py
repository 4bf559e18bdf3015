"""How messages get into a store: checked, by whoever has something to be done."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from pg_queue.domain import Json, NewMessage
from pg_queue.settings import queue_settings
from pg_queue.storage import store
from pg_queue.tasks import get_task
from pg_queue.tasks.expiry import with_expiry
from pg_queue.validation import checked_message


def enqueue(
    task: str,
    args: Sequence[Json] = (),
    kwargs: Mapping[str, Json] | None = None,
    *,
    queue: str | None = None,
    priority: int | None = None,
    run_after: datetime | None = None,
    expires: timedelta | float | datetime | None = None,
    max_attempts: int | None = None,
    headers: Mapping[str, Json] | None = None,
    organization_id: str = "",
    report_to: str | None = None,
    id: uuid.UUID | None = None,
    key: str | None = None,
    key_ttl: timedelta | None = None,
    on_success: Sequence[NewMessage] = (),
    on_failure: Sequence[NewMessage] = (),
    using: str = "default",
) -> uuid.UUID:
    """Store one message and return its id. Joins the caller's transaction. See `NewMessage` for the parameters.

    `queue` and `priority` None: the task's own. It is not begun later than `expires`: that instant, or so long
    (seconds) after it is due; None: the task's own. While `key` holds, or the task's `unique` makes one that does, the
    message that has it stands: nothing is stored, and its id is returned. `using` is the alias of a store.

    Raises: UnknownTask; InvalidMessage (also as PayloadNotJSON, PayloadTooLarge) naming the field; CapabilityMissing
    for a store that has no keys or no continuations.
    """
    info = get_task(task)
    headers = {} if headers is None else headers
    if expires is not None:
        headers = with_expiry(headers, expires, run_after)
    message = NewMessage(
        task=task,
        args=args,
        kwargs={} if kwargs is None else kwargs,
        queue=info.queue if queue is None else queue,
        priority=info.priority if priority is None else priority,
        run_after=run_after,
        max_attempts=max_attempts,
        headers=headers,
        organization_id=organization_id,
        report_to=report_to,
        id=id,
        key=key,
        key_ttl=key_ttl,
        on_success=on_success,
        on_failure=on_failure,
    )
    return enqueue_many([message], using=using)[0]


def enqueue_many(messages: Sequence[NewMessage], *, using: str = "default") -> list[uuid.UUID]:
    """Store messages, all or none, and return their ids in the same order. Joins the caller's transaction.

    First in is first out within one queue and priority. Raises: as `enqueue`, before anything is stored.
    """
    max_bytes = queue_settings().max_payload_bytes
    return store(using).enqueue([checked_message(message, max_bytes=max_bytes) for message in messages])
