"""Messages on their way in: stored as documents, unless another holds their key."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING
from uuid import UUID

from pg_queue.domain import NewMessage
from pg_queue.errors import InvalidMessage
from pg_queue.settings import QueueSettings
from pg_queue.storage.instants import microseconds
from pg_queue.storage.mongodb.documents import LIVING, new_document
from pg_queue.storage.mongodb.server import Document, Server

if TYPE_CHECKING:
    from pymongo.client_session import ClientSession

logger = logging.getLogger(__name__)


class Messages:
    """Stores messages, for the store itself and for what enqueues more of them: ends, barriers, replays.

    Its methods are called in a transaction. Two that write one document conflict: the later one begins anew, and sees
    what the other has written. So what was read here holds until the commit.
    """

    def __init__(self, server: Server, conf: QueueSettings) -> None:
        self._server, self._conf = server, conf

    def store(
        self,
        messages: Sequence[NewMessage],
        *,
        session: ClientSession | None,
        now: int,
        namespace: str,
        barrier_id: str | None = None,
    ) -> list[UUID]:
        """Store `messages`; the ids of those, or of who holds their key, in the same order.

        Raises: InvalidMessage (field `id`) for an id that waits or runs already, or is given twice.
        """
        if not messages:
            return []
        first = self._server.numbers(len(messages))
        holders = self._holders(messages, namespace, session, now)
        ids, documents, held = [], [], []
        for at, message in enumerate(messages):
            holder = None if message.key is None else holders.get(message.key)
            if holder is None:
                document = new_document(
                    message, self._conf, namespace=namespace, now=now, sequence=first + at, barrier_id=barrier_id
                )
                documents.append(document)
                holder = document["_id"]
                if message.key is not None:
                    holders[message.key] = holder
                    ttl = self._conf.key_ttl_seconds if message.key_ttl is None else message.key_ttl
                    held.append(holding(_key_id(namespace, message.key), holder, microseconds(ttl)))
            ids.append(UUID(holder))
        self._clear_the_way(messages, documents, session)
        self._write(documents, held, session)
        return ids

    def follow(
        self, messages: Sequence[NewMessage], *, session: ClientSession | None, now: int, namespace: str
    ) -> list[str]:
        """Store what follows from an end; the queues that it waits in.

        What cannot be stored, since its id is in use, keeps nothing from ending.
        """
        queues = []
        for message in messages:
            try:
                self.store([message], session=session, now=now, namespace=namespace)
                queues.append(message.queue)
            except InvalidMessage as error:  # raised before anything is written
                logger.error("continuation.refused task=%s id=%s; %s", message.task, message.id, error)
        return queues

    def lapse_keys(self, message_ids: Sequence[str], session: ClientSession | None, now: int) -> None:
        """These messages have ended: their keys hold for their time to live."""
        keys = self._server.collection("keys")
        for held in list(keys.find({"message_id": {"$in": list(message_ids)}}, session=session)):
            keys.update_one({"_id": held["_id"]}, {"$set": {"expires_at": now + int(held["ttl"])}}, session=session)

    def resume_key(self, document: Document, session: ClientSession | None, now: int) -> None:
        """Let a message that waits again hold its key, if nobody else does."""
        where = _key_id(document["namespace"], document["key"])
        keys = self._server.collection("keys")
        held = keys.find_one({"_id": where}, session=session)
        if held is None or _has_lapsed(held, now) or held["message_id"] == document["_id"]:
            is_own = held is not None and held["message_id"] == document["_id"]
            ttl = held["ttl"] if held and is_own else microseconds(self._conf.key_ttl_seconds)
            keys.update_one(*holding(where, document["_id"], ttl), upsert=True, session=session)

    def _holders(
        self, messages: Sequence[NewMessage], namespace: str, session: ClientSession | None, now: int
    ) -> dict[str, str]:
        """Who holds the keys of these messages already, by key."""
        wanted = {_key_id(namespace, message.key): message.key for message in messages if message.key is not None}
        if not wanted:
            return {}
        found = self._server.collection("keys").find({"_id": {"$in": list(wanted)}}, session=session)
        return {wanted[one["_id"]]: str(one["message_id"]) for one in found if not _has_lapsed(one, now)}

    def _write(
        self, documents: Sequence[Document], held: Sequence[tuple[Document, Document]], session: ClientSession | None
    ) -> None:
        from pymongo import UpdateOne

        if held:
            calls = [UpdateOne(where, change, upsert=True) for where, change in held]
            self._server.collection("keys").bulk_write(calls, session=session)
        if documents:
            self._server.collection("messages").insert_many(documents, session=session)

    def _clear_the_way(
        self, messages: Sequence[NewMessage], documents: Sequence[Document], session: ClientSession | None
    ) -> None:
        """Delete what messages that have ended left under ids that callers have chosen."""
        given = {message.id.hex for message in messages if message.id}
        chosen = [document["_id"] for document in documents if document["_id"] in given]
        if len(set(chosen)) < len(chosen):
            twice = Counter(chosen).most_common(1)[0][0]
            raise InvalidMessage(field="id", expected="an id that no other message has", got=str(UUID(twice)))
        if chosen:
            self._refuse_living(chosen, session)
            self._server.collection("messages").delete_many({"_id": {"$in": chosen}}, session=session)

    def _refuse_living(self, ids: Sequence[str], session: ClientSession | None) -> None:
        living = {"_id": {"$in": list(ids)}, "state": {"$in": LIVING}}
        if found := self._server.collection("messages").find_one(living, {"_id": 1}, session=session):
            expected = "an id that no message has which waits or runs"
            raise InvalidMessage(field="id", expected=expected, got=str(UUID(found["_id"])))


def holding(where: str, message_id: str, ttl: int) -> tuple[Document, Document]:
    """Filter and update that let a message hold a key."""
    return {"_id": where}, {"$set": {"message_id": message_id, "ttl": ttl, "expires_at": None}}


def _key_id(namespace: str, key: str) -> str:
    return f"{namespace}|{key}"


def _has_lapsed(held: Document, now: int) -> bool:
    return held["expires_at"] is not None and held["expires_at"] <= now
