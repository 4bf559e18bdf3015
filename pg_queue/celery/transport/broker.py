"""What a broker does besides handing messages over: publishing, routing, and queues with their bindings."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from django.db import InterfaceError, OperationalError, connections

from pg_queue.celery.envelope import RAW_TASK, with_fresh_id, write_payload
from pg_queue.celery.transport.address import Address
from pg_queue.domain import NewMessage
from pg_queue.errors import PayloadTooLarge
from pg_queue.sql import statements
from pg_queue.storage.postgres.connection import StoreConnection
from pg_queue.storage.rows import encode_message
from pg_queue.tasks.following import hold
from pg_queue.uuid7 import uuid7

_BROKER = statements("broker")

CLAIM_HEADER = "downbeat_claim"
"""Of a message whose end somebody waits for: the claim under which it was handed over. A retry carries it back."""


class Publisher:
    """Stores tasks on Django's connection of the database, and so joins the caller's transaction."""

    def __init__(self, address: Address) -> None:
        self._address, self._namespace = address, address.place.namespace
        self._connection = StoreConnection(address.alias)

    def publish(self, queue: str, payload: Mapping[str, Any]) -> None:
        """Store what kombu publishes as a row of its own. Raises: InvalidMessage; Django's database errors."""
        options = self._address.options
        headers = payload["headers"]
        claim = headers.pop(CLAIM_HEADER, None) if headers else None
        message = write_payload(
            payload,
            queue=queue,
            priority=priority_in(payload),
            max_attempts=options.max_deliveries,
        )
        row = encode_message(message, self._namespace, options.max_deliveries)
        size = len(row["args"]) + len(row["kwargs"]) + len(row["headers"])
        if size > options.max_message_bytes:
            expected = f"a message of at most {options.max_message_bytes} bytes (max_message_bytes)"
            raise PayloadTooLarge(field="body", expected=expected, got=size)
        if self._is_home and hold([message], in_transaction=connections[self._address.alias].in_atomic_block):
            return
        with self._reopening():
            if not self._take_over(row, claim):
                self._store(message, row)

    @property
    def _is_home(self) -> bool:
        """It is the default store, into which our own workers enqueue what Celery sends on behalf of their tasks."""
        home = self._address.conf.places["default"]  # not the store itself: a program without a project has none
        return not home.url and (home.database, home.namespace) == (self._address.alias, self._namespace)

    def size(self, queue: str) -> int:
        """How many messages a consumer of the queue would get at once."""
        with self._reopening():
            ((count,),) = self._connection.fetch(_BROKER["size"], {"namespace": self._namespace, "queue": queue})
        return int(count)

    def _store(self, message: NewMessage, row: Mapping[str, Any]) -> None:
        if self._connection.fetch(_BROKER["publish"], row):
            return
        moved = encode_message(with_fresh_id(message), self._namespace, self._address.options.max_deliveries)
        self._connection.fetch(_BROKER["publish"], moved)

    def _take_over(self, row: Mapping[str, Any], claim: object) -> bool:
        """Whether a retry has taken the place of the message that it is of, which this claim still holds."""
        message_id, token, _ = read_claim(claim)
        if message_id is None or message_id != row["id"] or row["task"] == RAW_TASK:
            return False
        return bool(self._connection.fetch(_BROKER["take_over"], {**row, "token": token}))

    @contextmanager
    def _reopening(self) -> Iterator[None]:
        """Where the connection is lost and no transaction hangs on it, let the next attempt open another one."""
        try:
            yield
        except (OperationalError, InterfaceError):
            wrapper = connections[self._address.alias]
            if not wrapper.in_atomic_block:
                wrapper.close()
            raise


class Broker:
    """Queues, bindings and broadcasts, each statement in a transaction of its own: they are no part of the caller's."""

    def __init__(self, connection: StoreConnection, namespace: str) -> None:
        self._connection, self._namespace = connection, namespace

    def declare(self, queue: str, *, is_transient: bool, is_exclusive: bool, ttl_seconds: float | None) -> None:
        """Write a queue down. With a time to live it goes when nobody touches it for so long."""
        self._count("declare", queue=queue, is_transient=is_transient, is_exclusive=is_exclusive, ttl=ttl_seconds)

    def own(self, queue: str) -> bool:
        """Hold an exclusive queue for as long as the session lives; False: another one does."""
        ((is_own,),) = self._fetch("own", queue=queue)
        return bool(is_own)

    def disown(self, queue: str) -> None:
        """Give it up."""
        self._fetch("disown", queue=queue)

    def touch(self, queues: Sequence[str]) -> set[str]:
        """Say that these queues are in use; those among them that there are."""
        return {name for (name,) in self._fetch("touch", queues=list(queues))}

    def bind(self, queue: str, exchange: str, kind: str, routing_key: str, pattern: str) -> None:
        """Lead what the exchange gets to the queue."""
        self._count("bind", queue=queue, exchange=exchange, kind=kind, routing_key=routing_key, pattern=pattern)

    def unbind(self, queue: str, exchange: str, routing_key: str) -> None:
        """Lead it there no longer."""
        self._count("unbind", queue=queue, exchange=exchange, routing_key=routing_key)

    def bindings(self) -> list[tuple[str, str, str]]:
        """Queue, exchange and routing key of each."""
        return [(queue, exchange, key) for queue, exchange, key in self._fetch("bindings")]

    def exists(self, queue: str) -> bool:
        """Whether the queue was declared, or has messages."""
        ((is_there,),) = self._fetch("exists", queue=queue)
        return bool(is_there)

    def look_up(self, queue: str) -> dict[str, Any]:
        """How a queue was declared, as `declare` takes it; one that was not is as one that stays."""
        rows = self._fetch("look_up", queue=queue)
        is_transient, is_exclusive, ttl_seconds = rows[0] if rows else (False, False, None)
        return {"is_transient": is_transient, "is_exclusive": is_exclusive, "ttl_seconds": ttl_seconds}

    def purge(self, queue: str) -> int:
        """Delete what waits in the queue and from whose end nothing follows; how many."""
        ((count,),) = self._fetch("purge", queue=queue)
        return int(count)

    def waiting(self, queue: str) -> list[uuid.UUID]:
        """Ids of at most a thousand messages that wait in the queue."""
        return [message_id for (message_id,) in self._fetch("waiting", queue=queue)]

    def delete(self, queue: str) -> None:
        """Forget the queue, its bindings and its broadcasts."""
        self._count("delete", queue=queue)

    def post(self, queue: str, payload: str) -> bool:
        """Put a payload into a transient queue; False: there is none of this name."""
        return bool(self._fetch("post", queue=queue, payload=payload))

    def route(self, exchange: str, routing_key: str, payload: str) -> list[str]:
        """Put a payload into each transient queue that the exchange leads to; the names of the other ones."""
        rows = self._fetch("route", exchange=exchange, routing_key=routing_key, payload=payload)
        return [name for (name,) in rows]

    def take(self, queues: Sequence[str], *, limit: int) -> list[tuple[str, str]]:
        """The oldest payloads of these transient queues, each with its queue's name. They are gone then."""
        return [(queue, payload) for queue, payload in self._fetch("take", queues=list(queues), limit=limit)]

    def give_back(self, claims: Sequence[tuple[uuid.UUID, uuid.UUID]]) -> None:
        """Let messages wait again, in their old place, that were handed over and not acknowledged."""
        self._touch("give_back", claims)

    def spend(self, claims: Sequence[tuple[uuid.UUID, uuid.UUID]]) -> None:
        """Note that these messages are held until their end, and not to be handed over again."""
        self._touch("spend", claims)

    def sweep(self, *, limit: int) -> int:
        """Delete queues that nobody uses any more, of all namespaces, with all that is in them; how many."""
        return self._connection.count(_BROKER["sweep"], {"limit": limit})

    def _touch(self, statement: str, claims: Sequence[tuple[uuid.UUID, uuid.UUID]]) -> None:
        if claims:
            ids, tokens = zip(*claims, strict=True)
            self._connection.count(_BROKER[statement], {"ids": list(ids), "tokens": list(tokens)})

    def _fetch(self, statement: str, **values: Any) -> list[Sequence[Any]]:
        return self._connection.fetch(_BROKER[statement], {"namespace": self._namespace, **values})

    def _count(self, statement: str, **values: Any) -> int:
        return self._connection.count(_BROKER[statement], {"namespace": self._namespace, **values})


def priority_in(payload: Mapping[str, Any]) -> int | None:
    """The priority that a message was published with; None: with none, or with nonsense."""
    priority = payload["properties"].get("priority")
    return priority if isinstance(priority, int) and not isinstance(priority, bool) else None


def claim_header(message_id: uuid.UUID, token: uuid.UUID, alias: str) -> str:
    """The value of `CLAIM_HEADER`: which message, by which claim, in which of Django's databases."""
    return f"{message_id} {token} {alias}"


def read_claim(value: object) -> tuple[uuid.UUID, uuid.UUID, str] | tuple[None, None, None]:
    """The other way; thrice None for what is none."""
    try:
        message_id, token, alias = str(value).split(" ", 2)
        return uuid.UUID(message_id), uuid.UUID(token), alias
    except ValueError:
        return None, None, None


def encode_broadcast(payload: Mapping[str, Any]) -> str:
    """A payload as its row keeps it."""
    body = payload["body"]
    kept = {**payload, "body": body if isinstance(body, str) else body.decode()}
    return json.dumps(kept, default=str)


def fresh_tag() -> str:
    """A delivery tag for what needs no claim."""
    return f"broadcast-{uuid7()}"
