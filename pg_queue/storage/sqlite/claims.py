"""Claims: which messages are next, given to a worker."""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from datetime import datetime, timedelta

from pg_queue.domain import Progress
from pg_queue.settings import QueueSettings
from pg_queue.sql import statements
from pg_queue.sqlite import as_text
from pg_queue.storage.sqlite.session import Row, Session, after, dump_pairs, seconds_until
from pg_queue.storage.sqlite.turns import Turns


class Claims:
    """Chooses and holds messages of one namespace."""

    def __init__(self, session: Session, namespace: str, conf: QueueSettings) -> None:
        self._session, self._namespace = session, namespace
        self._turns = Turns(session, namespace, conf)
        self._statements = statements("messages", "sqlite")

    def claim(self, queues: Sequence[str], *, limit: int, lease: timedelta, worker: str) -> list[Row]:
        """Rows of `claimed`, in the order of the claim.

        Whether something is due is asked before the write lock is taken: idle workers do not stand in anyone's way.
        """
        if limit < 1 or self.next_due_seconds(queues) != 0:
            return []
        return self._session.write(lambda now: self._claim(queues, limit, lease, worker, now))

    def next_due_seconds(self, queues: Sequence[str]) -> float | None:
        """See `pg_queue.ports.QueueStore`."""
        ((due_at,),) = self._session.fetch(self._statements["next_due"], self._parameters(queues))
        return None if due_at is None else seconds_until(due_at, self._session.now())

    def _claim(self, queues: Sequence[str], limit: int, lease: timedelta, worker: str, now: datetime) -> list[Row]:
        held: list[tuple[str, str]] = []

        def hold(message_ids: Sequence[str]) -> None:
            chosen = [(message_id, uuid.uuid4().hex) for message_id in message_ids]
            parameters = {"worker": worker, "now": as_text(now), "until": after(now, lease)}
            self._session.count(self._statements["hold"], {"chosen": json.dumps(chosen), **parameters})
            held.extend(chosen)

        rows = self._session.fetch(self._statements["slots"], self._parameters(queues, now=as_text(now)))
        self._turns.choose([(queue, priority) for queue, priority in rows], limit, now, hold)
        return self._session.fetch(self._statements["claimed"], {"chosen": json.dumps(held)})

    def _parameters(self, queues: Sequence[str], **others: str) -> dict[str, str]:
        return {"namespace": self._namespace, "queues": json.dumps(list(queues)), **others}

    def renew(self, pairs: Sequence[tuple[uuid.UUID, uuid.UUID]], *, lease: timedelta) -> set[uuid.UUID]:
        """See `pg_queue.ports.QueueStore`."""
        return self._touch("renew", pairs, lease)

    def release(self, pairs: Sequence[tuple[uuid.UUID, uuid.UUID]]) -> set[uuid.UUID]:
        """See `pg_queue.ports.QueueStore`."""
        return self._touch("release", pairs, timedelta())

    def note_progress(self, reports: Sequence[tuple[uuid.UUID, uuid.UUID, Progress]]) -> set[uuid.UUID]:
        """See `pg_queue.ports.QueueStore`."""

        def note(now: datetime) -> set[uuid.UUID]:
            held = set()
            for message_id, token, one in reports:
                stored = {"done": one.done, "total": one.total, "stage": one.stage, "at": now.isoformat()}
                row = {"id": message_id.hex, "token": token.hex, "progress": json.dumps(stored)}
                if self._session.count(self._statements["note_progress"], row):
                    held.add(token)
            return held

        return self._session.write(note) if reports else set()

    def _touch(self, name: str, pairs: Sequence[tuple[uuid.UUID, uuid.UUID]], lease: timedelta) -> set[uuid.UUID]:
        def touch(now: datetime) -> set[uuid.UUID]:
            held = self._session.fetch(self._statements["held"], {"pairs": dump_pairs(pairs)})
            until = after(now, lease)
            self._session.each(self._statements[name], [{"id": message_id, "until": until} for message_id, _ in held])
            return {uuid.UUID(token) for _, token in held}

        return self._session.write(touch) if pairs else set()
