"""The ends of messages, and what follows from them, in the transaction of the end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pg_queue.domain import Failure, MessageState
from pg_queue.storage.mongodb.barriers import MongoBarriers
from pg_queue.storage.mongodb.messages import Messages
from pg_queue.storage.mongodb.server import Document, Server
from pg_queue.storage.parcels import read_continuations
from pg_queue.storage.rows import encode_json

if TYPE_CHECKING:
    from pymongo.client_session import ClientSession

FREE: Document = {"token": None, "lease_until": None}
"""What a message has that nobody holds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """How one message ends."""

    message: Document
    state: MessageState
    ttl: int
    """How long its outcome is kept, in microseconds; 0: for ever."""
    value: Any = None
    failure: Failure | None = None
    is_traceless: bool = False
    """Nothing is kept of it, unless somebody needs its end."""

    @property
    def is_kept(self) -> bool:
        """Whether its document stays."""
        needs = ("report_to", "key", "barrier_id", "continuations")
        return not self.is_traceless or any(self.message.get(name) is not None for name in needs)


class Ends:
    """Ends messages. To be called in a transaction."""

    def __init__(self, server: Server, messages: Messages, barriers: MongoBarriers) -> None:
        self._server, self._messages, self._barriers = server, messages, barriers

    def end(self, ends: Sequence[End], session: ClientSession | None, now: int) -> list[tuple[str, str]]:
        """Do everything that these ends bring about; the namespaces and queues where something waits now."""
        from pymongo import DeleteOne, UpdateOne

        if not ends:
            return []
        calls: list[DeleteOne | UpdateOne] = [
            UpdateOne({"_id": end.message["_id"]}, {"$set": ended(end, now)})
            if end.is_kept
            else DeleteOne({"_id": end.message["_id"]})
            for end in ends
        ]
        self._server.collection("messages").bulk_write(calls, session=session)
        keyed = [end.message["_id"] for end in ends if end.message.get("key") is not None]
        if keyed:
            self._messages.lapse_keys(keyed, session, now)
        return [*self._continue(ends, session, now), *self._tell_barriers(ends, session, now)]

    def _continue(self, ends: Sequence[End], session: ClientSession | None, now: int) -> list[tuple[str, str]]:
        woken = []
        for end in ends:
            if (text := end.message.get("continuations")) is not None:
                is_success = end.state is MessageState.SUCCEEDED
                following = read_continuations(text, succeeded=is_success, message_id=end.message["_id"])
                namespace = end.message["namespace"]
                queues = self._messages.follow(following, session=session, now=now, namespace=namespace)
                woken += [(namespace, queue) for queue in queues]
        return woken

    def _tell_barriers(self, ends: Sequence[End], session: ClientSession | None, now: int) -> list[tuple[str, str]]:
        """Successes first: a failure among them keeps the barrier from being done by then."""
        members = [end for end in ends if end.message.get("barrier_id") is not None]
        succeeded = Counter(end.message["barrier_id"] for end in members if end.state is MessageState.SUCCEEDED)
        woken = []
        for barrier_id, count in sorted(succeeded.items()):
            woken += self._barriers.count_down(barrier_id, count, session, now)
        for end in members:
            if end.state is not MessageState.SUCCEEDED:
                woken += self._barriers.abort(end.message["barrier_id"], end.message["_id"], session, now)
        return woken


def ended(end: End, now: int) -> Document:
    """The fields that an end sets. Only a dead letter keeps what it needs to be replayed."""
    is_dead = end.state is MessageState.FAILED
    fields: Document = {
        **FREE,
        "state": end.state.value,
        "finished_at": now,
        "died_at": now if is_dead else None,
        "expires_at": now + end.ttl if end.ttl else None,
        "owed_to": end.message.get("report_to"),
        "result": None if end.value is None else encode_json(end.value),
        "error": None if end.failure is None else encode_json(end.failure.as_json()),
        "is_dead": is_dead,
        "progress": None,
        "has_outcome": True,
    }
    return fields if is_dead else fields | {"args": None, "kwargs": None, "continuations": None}


def waiting_again(*, failure: Failure | None, run_after: int | None) -> Document:
    """The fields of a message that is to be tried again; `run_after` None: it stands where it stood."""
    fields: Document = {**FREE, "state": MessageState.WAITING.value, "worker": None}
    if failure is not None:
        fields["error"] = encode_json(failure.as_json())
    if run_after is not None:
        fields["run_after"] = run_after
    return fields
