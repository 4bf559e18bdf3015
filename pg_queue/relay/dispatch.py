"""The beginning of the road: a message goes where its queue is worked off, in the transaction that makes it.

A whole relation of messages is dispatched by `pg_queue.composition.dispatch_sql`, which makes the same events.
"""

from __future__ import annotations

import uuid
from dataclasses import replace

from pg_queue.domain import NewEvent, NewMessage
from pg_queue.settings import queue_settings
from pg_queue.storage import store
from pg_queue.storage.parcels import pack
from pg_queue.uuid7 import uuid7


def dispatch(message: NewMessage) -> uuid.UUID:
    """Store a message that was checked, here or for the relay. Joins the caller's transaction.

    Raises: CapabilityMissing where it is to leave a store that has no outbox.
    """
    topic = queue_settings().routing.topic_of(message.queue)
    if topic is None:
        return store().enqueue([message])[0]
    message_id = message.id or uuid7()
    payload = pack(replace(message, id=message_id))
    return store().outbox.publish([NewEvent(topic=topic, payload=payload, key=str(message_id), id=message_id)])[0]
