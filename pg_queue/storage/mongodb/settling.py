"""Settlements, cancellations and leases that ran out: what they make of messages, in one transaction each."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING
from uuid import UUID

from pg_queue.domain import Death, Failure, MessageState, Retry, Settled, Settlement, Success
from pg_queue.settings import QueueSettings
from pg_queue.storage.failures import cancelled, vanished
from pg_queue.storage.instants import microseconds
from pg_queue.storage.mongodb.claims import COUNTED, held_among
from pg_queue.storage.mongodb.documents import LIVING
from pg_queue.storage.mongodb.ends import End, Ends, waiting_again
from pg_queue.storage.mongodb.outbox import MongoOutbox
from pg_queue.storage.mongodb.server import Document, Server

if TYPE_CHECKING:
    from pymongo.client_session import ClientSession

Woken = list[tuple[str, str]]
"""Namespaces and queues where something waits that did not."""

NAMED: Document = {"namespace": {"$type": "string"}, "queue": {"$type": "string"}}
"""The filter of messages that are somebody's: what was put there by hand without a place stops no other."""


class Settling:
    """Ends messages, or lets them wait again."""

    def __init__(self, server: Server, ends: Ends, outbox: MongoOutbox, conf: QueueSettings) -> None:
        self._server, self._ends, self._outbox = server, ends, outbox
        self._ttl = microseconds(conf.result_ttl_seconds)

    def settle(self, settlements: Sequence[Settlement]) -> dict[UUID, Settled]:
        """See `pg_queue.ports.QueueStore`."""

        def settle(session: ClientSession | None, now: int) -> tuple[dict[UUID, Settled], Woken]:
            pairs = [(one.message_id, one.token) for one in settlements]
            found = held_among(self._server.collection("messages"), pairs, session)
            held = {document["token"]: document for document in found}
            answers = {one.token: Settled.LOST for one in settlements}
            ends: list[End] = []
            woken: Woken = []
            for one in settlements:
                document = held.get(one.token.hex)
                if document is not None and document["_id"] == one.message_id.hex:
                    del held[one.token.hex]
                    answers[one.token] = self._settle_one(document, one, ends, woken, session, now)
                    self._outbox.store(one.events, session=session, now=now, namespace=document["namespace"])
            return answers, [*woken, *self._ends.end(ends, session, now)]

        answers, woken = self._server.transact(settle)
        self._server.wake_all(woken)
        return answers

    def expire(self, limit: int) -> int:
        """See `pg_queue.ports.QueueStore.expire_claims`."""

        def expire(session: ClientSession | None, now: int) -> tuple[int, Woken]:
            messages = self._server.collection("messages")
            where = {"state": MessageState.RUNNING.value, "lease_until": {"$lte": now}, **COUNTED, **NAMED}
            found = list(messages.find(where, session=session).sort([("lease_until", 1)]).limit(limit))
            ends: list[End] = []
            woken: Woken = []
            for document in found:
                attempts, most = document["attempts"], document["max_attempts"]
                failure = vanished(attempts, most, worker=document.get("worker"))
                if attempts < most:
                    self._let_wait(document, waiting_again(failure=failure, run_after=None), woken, session)
                else:
                    ends.append(self._death(document, failure, None))
            return len(found), [*woken, *self._ends.end(ends, session, now)]

        count, woken = self._server.transact(expire)
        self._server.wake_all(woken)
        return count

    def cancel(self, where: Document, *, reason: str, limit: int = 0) -> set[UUID]:
        """End messages that wait or run, of those that `where` finds; the ids of at most `limit` (0: all)."""

        def cancel(session: ClientSession | None, now: int) -> tuple[set[UUID], Woken]:
            living = {"state": {"$in": LIVING}} | where
            found = list(self._server.collection("messages").find(living, session=session).limit(limit))
            ends = [self._cancelled(document, reason) for document in found]
            return {UUID(one["_id"]) for one in found}, self._ends.end(ends, session, now)

        ids, woken = self._server.transact(cancel)
        self._server.wake_all(woken)
        return ids

    def _settle_one(
        self,
        document: Document,
        settlement: Settlement,
        ends: list[End],
        woken: Woken,
        session: ClientSession | None,
        now: int,
    ) -> Settled:
        """Let the message wait again, or add its end to `ends`."""
        outcome = settlement.outcome
        if isinstance(outcome, Success):
            ends.append(
                End(
                    message=document,
                    state=MessageState.SUCCEEDED,
                    ttl=self._ttl_of(outcome.ttl),
                    value=outcome.kept_value,
                    is_traceless=settlement.is_traceless,
                )
            )
            return Settled.DONE
        if isinstance(outcome, Retry) and document["attempts"] < document["max_attempts"]:
            again = waiting_again(failure=outcome.failure, run_after=now + microseconds(outcome.delay))
            self._let_wait(document, again, woken, session)
            return Settled.RETRYING
        ends.append(self._death(document, outcome.failure, outcome.ttl if isinstance(outcome, Death) else None))
        return Settled.DEAD

    def _let_wait(self, document: Document, fields: Document, woken: Woken, session: ClientSession | None) -> None:
        where = {"_id": document["_id"]}
        self._server.collection("messages").update_one(where, {"$set": fields}, session=session)
        woken.append((document["namespace"], document["queue"]))

    def _death(self, document: Document, failure: Failure, ttl: timedelta | None) -> End:
        return End(message=document, state=MessageState.FAILED, ttl=self._ttl_of(ttl), failure=failure)

    def _cancelled(self, document: Document, reason: str) -> End:
        failure = cancelled(
            reason,
            attempts=document.get("attempts", 0),
            max_attempts=document.get("max_attempts", 0),
            is_running=document["state"] == MessageState.RUNNING,
        )
        return End(message=document, state=MessageState.CANCELLED, ttl=self._ttl, failure=failure)

    def _ttl_of(self, ttl: timedelta | None) -> int:
        return self._ttl if ttl is None else microseconds(ttl)
