"""Where messages go: a batch in one transaction, in which each delivery is noted and stored once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from django.db import DatabaseError, connections

from pg_queue.celery.draining.reading import Parcel
from pg_queue.celery.draining.source import Delivery
from pg_queue.celery.envelope import with_fresh_id
from pg_queue.celery.transport.address import Address
from pg_queue.domain import NewMessage
from pg_queue.sql import statements
from pg_queue.storage.postgres.connection import StoreConnection
from pg_queue.storage.rows import encode_messages, waker

_DRAINING = statements("draining")
_CHUNK_BYTES = 16 << 20


@dataclass(slots=True)
class Stored:
    """What became of a batch. All but the refused may be acknowledged."""

    moved: list[Delivery] = field(default_factory=list)
    known: list[Delivery] = field(default_factory=list)
    """They were moved before."""
    refused: list[tuple[Delivery, str]] = field(default_factory=list)
    """With what the database said."""

    def add(self, other: Stored) -> None:
        """Count another batch in."""
        self.moved += other.moved
        self.known += other.known
        self.refused += other.refused


class Destination:
    """A namespace of the store, on Django's connection. One thread's own."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self._namespace = address.place.namespace
        self._connection = StoreConnection(address.alias)

    def store(self, parcels: Sequence[Parcel], *, remember_seconds: float) -> Stored:
        """Store each delivery that is not known, and note it for so long. Committed when this returns.

        A message whose values the database refuses is refused alone. Raises: Django's other database errors.
        """
        try:
            return self._store_together(parcels, remember_seconds)
        except DatabaseError as error:
            if not _is_about_values(error):
                raise
            if len(parcels) == 1:
                reason = f"{type(error).__name__}: {str(error).splitlines()[0][:200]}"
                return Stored(refused=[(parcels[0].delivery, reason)])
        done = Stored()
        for parcel in parcels:
            done.add(self.store([parcel], remember_seconds=remember_seconds))
        return done

    def close(self) -> None:
        """Give the connection up, so that the next use opens another."""
        connections[self.address.alias].close()

    def _store_together(self, parcels: Sequence[Parcel], remember_seconds: float) -> Stored:
        with self._connection.atomic():
            self._connection.fetch(_DRAINING["make_durable"], {})
            keys = sorted({parcel.identity for parcel in parcels})
            rows = self._fetch("remember", keys=keys, ttl=remember_seconds)
            done, messages = _sorted_out(parcels, fresh={key for (key,) in rows})
            self._insert(messages)
            wakers = {waker(self._namespace, one.queue) for one in messages if one.run_after is None}
            if wakers:
                self._fetch("wake", wakers=sorted(wakers))
        return done

    def _insert(self, messages: Sequence[NewMessage]) -> None:
        """Under their own ids where those are free, else under fresh ones, as the transport does it."""
        seen: set[UUID] = set()
        distinct = []
        for message in messages:
            is_second = message.id in seen
            if message.id is not None:
                seen.add(message.id)
            distinct.append(with_fresh_id(message) if is_second else message)
        free = set(self._insert_free(distinct))
        if taken := [message for message in distinct if message.id is not None and message.id not in free]:
            self._insert_free([with_fresh_id(message) for message in taken])

    def _insert_free(self, messages: Sequence[NewMessage]) -> Iterable[UUID]:
        most = self.address.options.max_deliveries
        _, chunks = encode_messages(messages, most, count=max(1, len(messages)), size=_CHUNK_BYTES)
        return [found for chunk in chunks for (found,) in self._fetch("store", messages=chunk)]

    def _fetch(self, statement: str, **values: Any) -> list[Any]:
        return self._connection.fetch(_DRAINING[statement], {"namespace": self._namespace, **values})


def _sorted_out(parcels: Sequence[Parcel], *, fresh: set[str]) -> tuple[Stored, list[NewMessage]]:
    """Which of them were moved before, and the messages of the others. `fresh`: the identities noted just now.

    Two of one identity that nothing marks as the same are two: a program has sent them under one task id.
    """
    done, messages, once = Stored(), [], set(fresh)
    for parcel in parcels:
        delivery = parcel.delivery
        if not delivery.is_first and parcel.identity not in once:
            done.known.append(delivery)
            continue
        if delivery.has_own_tag:
            once.discard(parcel.identity)
        done.moved.append(delivery)
        messages.append(parcel.message)
    return done, messages


def _is_about_values(error: DatabaseError) -> bool:
    """Whether it would fail again and again. Classes of SQLSTATE: data exceptions, constraints, exceeded limits."""
    state = getattr(error.__cause__, "sqlstate", None) or ""
    return state[:2] in {"22", "23", "54"}
