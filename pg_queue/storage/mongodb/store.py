"""The store: the contract's operations, on the documents of `pg_queue.storage.mongodb.documents`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING
from uuid import UUID

from pg_queue.domain import (
    Capability,
    Claim,
    Death,
    Message,
    MessageState,
    NewMessage,
    Progress,
    Settled,
    Settlement,
)
from pg_queue.settings import QueueSettings, StoreSettings
from pg_queue.storage.capable import Capable
from pg_queue.storage.failures import unreadable
from pg_queue.storage.mongodb.barriers import MongoBarriers
from pg_queue.storage.mongodb.claims import Claims, Pair
from pg_queue.storage.mongodb.documents import claim_of, hexes, outcome_of, readable
from pg_queue.storage.mongodb.ends import Ends
from pg_queue.storage.mongodb.limits import MongoLimits
from pg_queue.storage.mongodb.listener import MongoListener
from pg_queue.storage.mongodb.locks import MongoLocks
from pg_queue.storage.mongodb.messages import Messages
from pg_queue.storage.mongodb.operations import MongoOperations
from pg_queue.storage.mongodb.outbox import MongoOutbox
from pg_queue.storage.mongodb.outcomes import KNOWN, Outcomes
from pg_queue.storage.mongodb.server import Document, Server
from pg_queue.storage.mongodb.settling import Settling
from pg_queue.storage.mongodb.switches import MongoSwitches
from pg_queue.storage.mongodb.workers import MongoWorkers
from pg_queue.storage.rows import UNREADABLE, Depth

if TYPE_CHECKING:
    from pymongo.client_session import ClientSession


class MongoStore(Capable):
    """Implements `pg_queue.ports.QueueStore`. Each call is a transaction of its own."""

    capabilities = frozenset(Capability) - {Capability.TRANSACTIONS, Capability.SET_ENQUEUE, Capability.FAIRNESS}
    is_experimental = True

    def __init__(self, conf: QueueSettings, place: StoreSettings, server: Server | None = None) -> None:
        """`server`: one that is shared with the store of another namespace. Raises: Configuration."""
        super().__init__(place)
        self._conf, self._settings = conf, place
        self._server = server or Server(place)
        self._spaces: dict[str, MongoStore] = {self.namespace: self}
        self._incoming = Messages(self._server, conf)
        self._barriers = MongoBarriers(self._server, self._incoming, self.namespace)
        self._outbox = MongoOutbox(self._server, self.namespace)
        self.workers = MongoWorkers(self._server, self.namespace)
        self._claims = Claims(self._server, self.namespace)
        self._settling = Settling(self._server, Ends(self._server, self._incoming, self._barriers), self._outbox, conf)
        self._outcomes = Outcomes(self._server, self.namespace, self._incoming, self._barriers, conf)

    @property
    def place(self) -> str:
        """See the port."""
        return f"MongoDB at {self._server.label}"

    @property
    def barriers(self) -> MongoBarriers:
        """See the port."""
        return self._barriers

    @property
    def outbox(self) -> MongoOutbox:
        """See the port."""
        return self._outbox

    @cached_property
    def switches(self) -> MongoSwitches:
        """See the port."""
        return MongoSwitches(self._server, self.namespace)

    @cached_property
    def locks(self) -> MongoLocks:
        """See the port."""
        return MongoLocks(self._server, self.namespace)

    @cached_property
    def limits(self) -> MongoLimits:
        """See the port."""
        return MongoLimits(self._server, self.namespace)

    @cached_property
    def operations(self) -> MongoOperations:
        """See the port."""
        return MongoOperations(self._server, self.namespace, self._settling, self._outcomes)

    def within(self, namespace: str) -> MongoStore:
        """See the port. On the same connections."""
        if namespace not in self._spaces:
            found = MongoStore(self._conf, self._settings.within(namespace), self._server)
            found._spaces = self._spaces
            self._spaces[namespace] = found
        return self._spaces[namespace]

    def listen(self, queues: Sequence[str]) -> MongoListener:
        """See the port."""
        return MongoListener(self._server, self.namespace, queues)

    def enqueue(self, messages: Sequence[NewMessage]) -> list[UUID]:
        """See the port. Raises: InvalidMessage (field `id`) for an id that waits or runs already."""
        if not messages:
            return []

        def store(session: ClientSession | None, now: int) -> list[UUID]:
            return self._incoming.store(messages, session=session, now=now, namespace=self.namespace)

        ids = self._server.transact(store)
        self._server.wake(self.namespace, [message.queue for message in messages])
        return ids

    def claim(self, *, queues: Sequence[str], limit: int, lease: timedelta, worker: str) -> list[Claim]:
        """See the port."""
        with self._server.errors():
            held = self._claims.claim(queues, limit=limit, lease=lease, worker=worker)
        claims = []
        for document in held:
            try:
                claims.append(claim_of(document))
            except UNREADABLE as error:
                self._bury(document, error)
        return claims

    def renew(self, claims: Sequence[Pair], *, lease: timedelta) -> set[UUID]:
        """See the port."""
        return self._claims.renew(claims, lease)

    def release(self, claims: Sequence[Pair]) -> set[UUID]:
        """See the port."""
        return self._claims.release(claims)

    def note_progress(self, reports: Sequence[tuple[UUID, UUID, Progress]]) -> set[UUID]:
        """See the port."""
        with self._server.errors():
            return self._claims.note_progress(reports)

    def settle(self, settlements: Sequence[Settlement]) -> dict[UUID, Settled]:
        """See the port."""
        return self._settling.settle(settlements) if settlements else {}

    def expire_claims(self, *, limit: int) -> int:
        """See the port."""
        return self._settling.expire(limit)

    def overdue_seconds(self) -> float:
        """See the port."""
        with self._server.errors():
            now = self._server.now()
            where = {"state": MessageState.RUNNING.value, "lease_until": {"$lte": now}}
            found = list(self._server.collection("messages").find(where).sort([("lease_until", 1)]).limit(1))
        return (now - found[0]["lease_until"]) / 1e6 if found else 0.0

    def cancel(self, message_ids: Sequence[UUID], *, reason: str = "") -> set[UUID]:
        """See the port."""
        where: Document = {"_id": {"$in": hexes(message_ids)}, "namespace": self.namespace}
        return self._settling.cancel(where, reason=reason) if message_ids else set()

    def get(self, message_ids: Iterable[UUID]) -> dict[UUID, Message]:
        """See the port. What an outcome does not keep is empty: its args and kwargs."""
        with self._server.errors():
            wanted = {"_id": {"$in": hexes(message_ids)}, "namespace": self.namespace, **KNOWN}
            found = list(self._server.collection("messages").find(wanted))
        return {message.id: message for message in readable(found, outcome_of)}

    def take_outcomes(self, report_to: str, *, limit: int, hold: timedelta = timedelta(0)) -> list[Message]:
        """See the port."""
        return self._outcomes.take(report_to, limit, hold)

    def confirm_outcomes(self, report_to: str, outcomes: Sequence[Message]) -> None:
        """See the port."""
        self._outcomes.confirm(report_to, outcomes)

    def retain(self, *, limit: int) -> int:
        """See the port."""
        return self._outcomes.retain(limit)

    def replay(self, message_ids: Sequence[UUID], *, keep_attempts: bool = False) -> set[UUID]:
        """See the port."""
        return self._outcomes.replay(message_ids, keep_attempts) if message_ids else set()

    def depths(self) -> list[Depth]:
        """See the port."""
        with self._server.errors():
            now = self._server.now()
            rows = list(self._server.snapshot("messages").aggregate(depths_pipeline(self.namespace, now)))
        return [
            Depth(
                queue=row["_id"],
                waiting=row["waiting"],
                delayed=row["delayed"],
                running=row["running"],
                dead=row["dead"],
                oldest_due_seconds=(now - min(now, row["oldest"] or now)) / 1e6,
            )
            for row in rows
        ]

    def next_due_seconds(self, queues: Sequence[str]) -> float | None:
        """See the port."""
        with self._server.errors():
            due = self._claims.next_due(queues)
            return None if due is None else max(0, due - self._server.now()) / 1e6

    def _bury(self, document: Document, error: Exception) -> None:
        try:
            message_id, token = UUID(document["_id"]), UUID(document["token"])
        except (ValueError, TypeError, AttributeError):
            with self._server.errors():
                self._claims.set_aside(document)
            return
        self.settle([Settlement(message_id=message_id, token=token, outcome=Death(failure=unreadable(error)))])


def depths_pipeline(namespace: str, now: int) -> list[Document]:
    """Figures per queue: how many wait, are delayed, run and are dead, and since when the oldest is due (else now)."""
    is_waiting, is_due = {"$eq": ["$state", "waiting"]}, {"$lte": ["$run_after", now]}
    is_one_of: Document = {
        "waiting": {"$and": [is_waiting, is_due]},
        "delayed": {"$and": [is_waiting, {"$gt": ["$run_after", now]}]},
        "running": {"$eq": ["$state", "running"]},
        "dead": {"$eq": ["$is_dead", True]},
    }
    counts = {name: {"$sum": {"$cond": [test, 1, 0]}} for name, test in is_one_of.items()}
    oldest = {"$min": {"$cond": [is_one_of["waiting"], "$run_after", now]}}
    shown = {"$or": [{"state": {"$in": ["waiting", "running"]}}, {"is_dead": True}]}
    return [
        {"$match": {"namespace": namespace, "queue": {"$gte": ""}, **shown}},
        {"$group": {"_id": "$queue", **counts, "oldest": oldest}},
        {"$sort": {"_id": 1}},
    ]
