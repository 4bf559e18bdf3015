"""Messages on their way in: stored as rows, unless another holds their key."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from django.db import DataError, IntegrityError, ProgrammingError, transaction

from pg_queue.domain import NewMessage
from pg_queue.settings import QueueSettings
from pg_queue.sql import statements
from pg_queue.sqlite import as_text
from pg_queue.storage.sqlite.rows import dump_message
from pg_queue.storage.sqlite.session import Session

logger = logging.getLogger(__name__)

REFUSALS = (IntegrityError, DataError, ProgrammingError, OverflowError)
"""What is about the values of a message, so that the same again fails again: a constraint, a value of another type."""


class Messages:
    """Stores messages, for the store itself and for what enqueues more of them: ends, barriers, replays.

    Its methods are called in a transaction that has the write lock, so nobody comes between their statements.
    """

    def __init__(self, session: Session, conf: QueueSettings) -> None:
        self._session, self._conf = session, conf
        self._store = statements("messages", "sqlite")["store"]
        self._keys = statements("keys", "sqlite")

    def store(
        self, messages: Sequence[NewMessage], *, now: datetime, namespace: str, barrier_id: uuid.UUID | None = None
    ) -> list[uuid.UUID]:
        """Store `messages`; the ids of those, or of who holds their key, in the same order."""
        instant, most = as_text(now), self._conf.max_attempts
        ids, rows = [], []
        for message in messages:
            row = dump_message(message, now=instant, namespace=namespace, max_attempts=most, barrier_id=barrier_id)
            holder = None if message.key is None else self._take_key(message, row)
            ids.append(uuid.UUID(holder or row["id"]))
            if holder is None:
                rows.append(row)
        self._session.each(self._store, rows)
        return ids

    def follow(self, messages: Sequence[NewMessage], *, now: datetime, namespace: str) -> None:
        """Store what follows from an end. What cannot be stored (its id is in use) keeps nothing from ending."""
        for message in messages:
            try:
                with transaction.atomic(using=self._session.alias):
                    self.store([message], now=now, namespace=namespace)
            except REFUSALS as error:
                logger.error("continuation.refused task=%s id=%s; %s", message.task, message.id, error)

    def resume_key(self, row: dict[str, Any]) -> None:
        """Let a message that waits again hold its key, if nobody else does."""
        self._session.count(self._keys["resume"], row | {"ttl_seconds": self._conf.key_ttl_seconds})

    def lapse_keys(self, message_ids: Sequence[str], now: datetime) -> None:
        """These messages have ended: their keys hold for their time to live."""
        instant = as_text(now)
        self._session.each(self._keys["lapse"], [{"id": one, "now": instant} for one in message_ids])

    def _take_key(self, message: NewMessage, row: dict[str, Any]) -> str | None:
        """Let the message hold its key; the id of the one that holds it already, which may be this one's own."""
        ttl = self._conf.key_ttl_seconds if message.key_ttl is None else message.key_ttl.total_seconds()
        if self._session.fetch(self._keys["take"], row | {"ttl_seconds": ttl}):
            return None
        ((holder,),) = self._session.fetch(self._keys["holder"], row)
        return str(holder)
