"""Messages that are routed away and have not left yet: events of the outbox, shown as what they are to become."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterable

from pg_queue.domain import Capability, Message, MessageState, PublishedEvent
from pg_queue.routes import CELERY, STORE
from pg_queue.settings import queue_settings
from pg_queue.storage import store
from pg_queue.storage.parcels import UNREADABLE, unpack

logger = logging.getLogger(__name__)


def get_outgoing(ids: Iterable[uuid.UUID]) -> dict[uuid.UUID, Message]:
    """The messages of these ids that wait in the outbox to be relayed; none on a store without one.

    They wait; why the target has refused one is kept with its event. Who looks for a message asks here first, and then
    where it is routed to: it is there before it is gone from here.
    """
    if Capability.EVENTS not in store().capabilities:
        return {}
    events = store().outbox.get(ids)
    found = ((one.id, _message(one)) for one in events.values() if one.topic.startswith((STORE, CELERY)))
    return {message_id: message for message_id, message in found if message is not None}


def _message(event: PublishedEvent) -> Message | None:
    """None: nobody has dispatched it."""
    try:
        new = unpack(event.payload)
        return Message(
            id=event.id,
            task=str(new.task),
            args=list(new.args),
            kwargs=dict(new.kwargs),
            queue=new.queue,
            priority=new.priority,
            state=MessageState.WAITING,
            attempts=0,
            max_attempts=new.max_attempts or queue_settings().max_attempts,
            run_after=new.run_after or event.created_at,
            enqueued_at=event.created_at,
            started_at=None,
            finished_at=None,
            headers=dict(new.headers),
            organization_id=new.organization_id,
            report_to=new.report_to,
        )
    except UNREADABLE as error:
        logger.warning("event.unreadable event=%s; %s: %s", event.id, type(error).__name__, error)
        return None
