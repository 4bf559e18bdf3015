"""The queue in a file of SQLite: one machine, any number of processes, one writer at a time.

Whatever writes takes the file's write lock before it reads anything, so what it has read still holds when it writes,
and several statements are as good as one. Instants are the machine's clock, in milliseconds, as SQLite reads it.
"""

from __future__ import annotations

import json
import sqlite3
import uuid
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from pg_queue.domain import (
    Capability,
    Claim,
    Death,
    Failure,
    Message,
    MessageState,
    NewMessage,
    Progress,
    Retry,
    Settled,
    Settlement,
    Success,
)
from pg_queue.settings import QueueSettings, StoreSettings
from pg_queue.sql import statements
from pg_queue.sqlite import as_instant, as_text, next_number
from pg_queue.storage.capable import Capable
from pg_queue.storage.failures import cancelled, unreadable, vanished
from pg_queue.storage.operations import DatabaseOperations
from pg_queue.storage.rows import UNREADABLE, Depth, decode_claim, decode_message, decode_shown, readable
from pg_queue.storage.sqlite.barriers import SqliteBarriers
from pg_queue.storage.sqlite.claims import Claims
from pg_queue.storage.sqlite.ends import End, Ends, Living
from pg_queue.storage.sqlite.limits import SqliteLimits
from pg_queue.storage.sqlite.listener import SqliteListener
from pg_queue.storage.sqlite.locks import SqliteLocks
from pg_queue.storage.sqlite.messages import Messages
from pg_queue.storage.sqlite.outbox import SqliteOutbox
from pg_queue.storage.sqlite.rows import claim_row, message_row
from pg_queue.storage.sqlite.session import Row, Session, after, dump_ids, dump_json, dump_pairs
from pg_queue.storage.sqlite.switches import SqliteSwitches
from pg_queue.storage.workers import DatabaseWorkers
from pg_queue.uuid7 import uuid7

LEAST_VERSION = (3, 38, 0)
"""The first with the operators -> and ->>; RETURNING and UPDATE … FROM are older."""

Pair = tuple[uuid.UUID, uuid.UUID]


class SqliteStore(Capable):
    """Implements `pg_queue.ports.QueueStore`."""

    capabilities = frozenset(Capability)

    def __init__(self, conf: QueueSettings, place: StoreSettings) -> None:
        """Raises: Configuration where SQLite is too old."""
        super().__init__(place)
        _check_version(place)
        self.database = place.database
        self.workers = DatabaseWorkers(place.database, self.namespace)
        self._conf, self._place = conf, place
        self._tenants: dict[str, SqliteStore] = {self.namespace: self}
        self._session = Session(place.database)
        self._incoming = Messages(self._session, conf)
        self._barriers = SqliteBarriers(self._session, self._incoming, self.namespace)
        self._outbox = SqliteOutbox(self._session, self.namespace)
        self._switches = SqliteSwitches(self._session, self.namespace)
        self._locks = SqliteLocks(self._session, self.namespace)
        self._limits = SqliteLimits(self._session, self.namespace)
        self._claims = Claims(self._session, self.namespace, conf)
        self._ends = Ends(self._session, self._incoming, self._barriers)
        self._messages = statements("messages", "sqlite")
        self._outcomes = statements("outcomes", "sqlite")

    @property
    def barriers(self) -> SqliteBarriers:
        """See the port."""
        return self._barriers

    @property
    def outbox(self) -> SqliteOutbox:
        """See the port."""
        return self._outbox

    @property
    def switches(self) -> SqliteSwitches:
        """See the port."""
        return self._switches

    @property
    def operations(self) -> DatabaseOperations:
        """See the port."""
        return DatabaseOperations(self._place.database, self.namespace, self.cancel)

    @property
    def limits(self) -> SqliteLimits:
        """See the port."""
        return self._limits

    @property
    def locks(self) -> SqliteLocks:
        """See the port."""
        return self._locks

    def within(self, namespace: str) -> SqliteStore:
        """See the port."""
        if namespace not in self._tenants:
            tenant = SqliteStore(self._conf, self._place.within(namespace))
            tenant._tenants = self._tenants
            self._tenants[namespace] = tenant
        return self._tenants[namespace]

    def listen(self, queues: Sequence[str]) -> SqliteListener:
        """See the port."""
        return SqliteListener(self._place.database, self.namespace, queues)

    def enqueue(self, messages: Sequence[NewMessage]) -> list[uuid.UUID]:
        """See the port."""
        return self._session.write(lambda now: self._incoming.store(messages, now=now, namespace=self.namespace))

    def claim(self, *, queues: Sequence[str], limit: int, lease: timedelta, worker: str) -> list[Claim]:
        """See the port."""
        rows = self._claims.claim(queues, limit=limit, lease=lease, worker=worker)
        claims, unread = [], []
        for row in rows:
            try:
                claims.append(decode_claim(claim_row(row)))
            except UNREADABLE as error:
                unread.append((row, unreadable(error)))
        if unread:
            self._session.write(lambda now: self._bury(unread, now))
        return claims

    def renew(self, claims: Sequence[Pair], *, lease: timedelta) -> set[uuid.UUID]:
        """See the port."""
        return self._claims.renew(claims, lease=lease)

    def release(self, claims: Sequence[Pair]) -> set[uuid.UUID]:
        """See the port."""
        return self._claims.release(claims)

    def note_progress(self, reports: Sequence[tuple[uuid.UUID, uuid.UUID, Progress]]) -> set[uuid.UUID]:
        """See the port."""
        return self._claims.note_progress(reports)

    def settle(self, settlements: Sequence[Settlement]) -> dict[uuid.UUID, Settled]:
        """See the port."""
        return self._session.write(lambda now: self._settle(settlements, now)) if settlements else {}

    def expire_claims(self, *, limit: int) -> int:
        """See the port."""
        return self._session.write(lambda now: self._expire(limit, now))

    def overdue_seconds(self) -> float:
        """See the port."""
        now = self._session.now()
        ((until,),) = self._session.fetch(self._messages["lapsed"], {"now": as_text(now)})
        return 0.0 if until is None else (now - as_instant(until)).total_seconds()

    def cancel(self, message_ids: Sequence[uuid.UUID], *, reason: str = "") -> set[uuid.UUID]:
        """See the port."""

        def cancel(now: datetime) -> set[uuid.UUID]:
            parameters = {"ids": dump_ids(message_ids), "namespace": self.namespace}
            living = [Living.of(row) for row in self._session.fetch(self._outcomes["alive"], parameters)]
            self._ends.end([self._cancelled(message, reason) for message in living], now)
            return {uuid.UUID(message.id) for message in living}

        return self._session.write(cancel)

    def get(self, message_ids: Iterable[uuid.UUID]) -> dict[uuid.UUID, Message]:
        """See the port. What an outcome does not keep is empty: its args and kwargs."""
        parameters = {"ids": dump_ids(message_ids), "namespace": self.namespace}
        rows = self._session.fetch(self._outcomes["get"], parameters)
        found = readable(rows, lambda row: decode_shown((*message_row(row), row[21])))
        return {message.id: message for message in found}

    def take_outcomes(self, report_to: str, *, limit: int, hold: timedelta = timedelta(0)) -> list[Message]:
        """See the port. The transaction holds them."""

        def take(now: datetime) -> list[Row]:
            parameters = {"report_to": report_to, "namespace": self.namespace, "limit": limit}
            rows = self._session.fetch(self._outcomes["unreported"], parameters)
            self._session.each(self._outcomes["hand_over"], [{"id": row[0]} for row in rows])
            return rows

        return list(_readable(self._session.write(take)))

    def confirm_outcomes(self, report_to: str, outcomes: Sequence[Message]) -> None:
        """See the port: the transaction has."""

    def retain(self, *, limit: int) -> int:
        """See the port."""
        return self._session.write(lambda now: self._retain(limit, now))

    def replay(self, message_ids: Sequence[uuid.UUID], *, keep_attempts: bool = False) -> set[uuid.UUID]:
        """See the port."""
        return self._session.write(lambda now: self._replay(message_ids, now, keep_attempts))

    def next_due_seconds(self, queues: Sequence[str]) -> float | None:
        """See the port."""
        return self._claims.next_due_seconds(queues)

    def depths(self) -> list[Depth]:
        """See the port."""
        parameters = {"namespace": self.namespace, "now": as_text(self._session.now())}
        return [
            Depth(queue=row[0], waiting=row[1], delayed=row[2], running=row[3], dead=row[4], oldest_due_seconds=row[5])
            for row in self._session.fetch(self._messages["depths"], parameters)
        ]

    def _settle(self, settlements: Sequence[Settlement], now: datetime) -> dict[uuid.UUID, Settled]:
        pairs = dump_pairs((one.message_id, one.token) for one in settlements)
        held = {row[1]: Living.of(row) for row in self._session.fetch(self._outcomes["held"], {"pairs": pairs})}
        answers = {one.token: Settled.LOST for one in settlements}
        ends: list[End] = []
        for one in settlements:
            if (message := held.pop(one.token.hex, None)) is not None:
                answers[one.token] = self._settle_one(message, one, ends, now)
                self._outbox.store(one.events, now=now, namespace=message.namespace)
        self._ends.end(ends, now)
        return answers

    def _settle_one(self, message: Living, settlement: Settlement, ends: list[End], now: datetime) -> Settled:
        """Let the message wait again, or add its end to `ends`."""
        outcome = settlement.outcome
        if isinstance(outcome, Success):
            ends.append(
                End(
                    message=message,
                    state=MessageState.SUCCEEDED,
                    value=None if outcome.kept_value is None else dump_json(outcome.kept_value),
                    ttl_seconds=self._ttl_seconds(outcome.ttl),
                    is_traceless=settlement.is_traceless,
                )
            )
            return Settled.DONE
        error = dump_json(outcome.failure.as_json())
        if isinstance(outcome, Retry) and message.has_attempts:
            parameters = {"id": message.id, "error": error, "run_after": after(now, outcome.delay)}
            self._session.count(self._outcomes["retry"], parameters)
            return Settled.RETRYING
        ttl = self._ttl_seconds(outcome.ttl if isinstance(outcome, Death) else None)
        ends.append(End(message=message, state=MessageState.FAILED, error=error, ttl_seconds=ttl))
        return Settled.DEAD

    def _bury(self, unread: Sequence[tuple[Row, Failure]], now: datetime) -> None:
        """Messages just claimed that no `enqueue` has written; by what their rows hold, whatever that is."""
        for row, failure in unread:
            names = {"id": row[0], "token": row[-2], "new_id": _id_of(row[0])}
            self._session.count(self._messages["rename"], names)
            pairs = json.dumps([(names["new_id"], names["token"])])
            for held in self._session.fetch(self._outcomes["held"], {"pairs": pairs}):
                self._ends.end([self._dead(Living.of(held), failure)], now)

    def _expire(self, limit: int, now: datetime) -> int:
        parameters = {"now": as_text(now), "limit": limit}
        ends: list[End] = []
        rows = self._session.fetch(self._outcomes["expired"], parameters)
        for *columns, worker in rows:
            message = Living.of(columns)
            failure = vanished(message.attempts, message.max_attempts, worker=worker)
            if message.has_attempts:
                error = dump_json(failure.as_json())
                self._session.count(self._outcomes["take_back"], {"id": message.id, "error": error})
            else:
                ends.append(self._dead(message, failure))
        self._ends.end(ends, now)
        return len(rows)

    def _replay(self, message_ids: Sequence[uuid.UUID], now: datetime, keep_attempts: bool) -> set[uuid.UUID]:
        parameters = {"ids": dump_ids(message_ids), "namespace": self.namespace}
        rows = [
            dict(zip(REPLAYED, row, strict=True)) for row in self._session.fetch(self._outcomes["raise"], parameters)
        ]
        for row in rows:
            row |= {"namespace": self.namespace, "now": as_text(now), "sequence": next_number()}
            row["attempts"] = min(row["attempts"], row["max_attempts"] - 1) if keep_attempts else 0
            self._session.count(self._outcomes["forget_failure"], row)
            self._session.count(self._outcomes["replay"], row)
            if row["key"] is not None:
                self._incoming.resume_key(row)
        return {uuid.UUID(row["id"]) for row in rows}

    def _retain(self, limit: int, now: datetime) -> int:
        parameters = {"now": as_text(now), "limit": limit}
        gone = sum(self._session.count(self._outcomes[name], parameters) for name in ("retain_results", "retain_keys"))
        gone += self._locks.retain(now=now, limit=limit)
        if ttl := self._conf.dead_letter_ttl_seconds:
            parameters = {"before": after(now, -ttl), "limit": limit}
            gone += self._session.count(self._outcomes["retain_dead_letters"], parameters)
        if ttl := self._conf.result_ttl_seconds:
            gone += self._barriers.retain(before=now - timedelta(seconds=ttl), limit=limit)
        return gone

    def _dead(self, message: Living, failure: Failure) -> End:
        error, ttl = dump_json(failure.as_json()), self._conf.result_ttl_seconds
        return End(message=message, state=MessageState.FAILED, error=error, ttl_seconds=ttl)

    def _cancelled(self, message: Living, reason: str) -> End:
        failure = cancelled(
            reason,
            attempts=message.attempts,
            max_attempts=message.max_attempts,
            is_running=message.token is not None,
        )
        return End(
            message=message,
            state=MessageState.CANCELLED,
            error=dump_json(failure.as_json()),
            ttl_seconds=self._conf.result_ttl_seconds,
        )

    def _ttl_seconds(self, ttl: timedelta | None) -> float:
        return self._conf.result_ttl_seconds if ttl is None else ttl.total_seconds()


REPLAYED = (
    "id",
    "queue",
    "priority",
    "task",
    "args",
    "kwargs",
    "headers",
    "organization_id",
    "report_to",
    "max_attempts",
    "enqueued_at",
    "error",
    "key",
    "continuations",
    "attempts",
)
"""The columns of the statement `raise`."""


def _id_of(text: str) -> str:
    """What is an id, and for what is none a new one."""
    try:
        return uuid.UUID(text).hex
    except ValueError:
        return uuid7().hex


def _readable(rows: Iterable[Row]) -> list[Message]:
    """The messages in `rows`; what no operation has written is left out, and said, so that it stops nobody."""
    return list(readable(rows, lambda row: decode_message(message_row(row))))


def _check_version(place: StoreSettings) -> None:
    if sqlite3.sqlite_version_info < LEAST_VERSION:
        expected = f"SQLite {'.'.join(map(str, LEAST_VERSION))} or later"
        raise place.wrong("DATABASE", expected, sqlite3.sqlite_version)
