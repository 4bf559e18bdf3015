"""The commands that a stand-in cannot run, or of which it cannot show that they are safe: by their text."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Any
from unittest import mock

import mongomock
import pytest
from bson import encode
from pymongo import MongoClient

from pg_queue.domain import MessageState, NewMessage
from pg_queue.settings import QueueSettings, StoreSettings
from pg_queue.storage.mongodb import MongoStore
from pg_queue.storage.mongodb.claims import PRIORITIES, due_in, holding
from pg_queue.storage.mongodb.documents import claim_of, new_document
from pg_queue.storage.mongodb.listener import wakes_of
from pg_queue.storage.mongodb.server import INDEXES, Server
from tests.contract.mongodb_harness import StandInServer

PLACE = StoreSettings(alias="here", backend="mongodb", url="mongodb://a.example/q?replicaSet=rs0")


def test_a_message_is_held_only_where_it_waits_and_counts_one_attempt() -> None:
    where, change = holding("ab", "cd", worker="w", now=1, until=2)
    assert where == {"_id": "ab", "state": "waiting"}
    assert change["$inc"] == {"attempts": 1}
    held = {"state": "running", "token": "cd", "worker": "w", "started_at": 1, "lease_until": 2, "progress": None}
    assert change["$set"] == held


def test_what_is_due_is_found_by_the_index_of_its_order() -> None:
    (index, *_) = INDEXES["messages"]
    assert [name for name, _ in index[:5]] == list(due_in("n", "q", 1))[:5]
    assert due_in("n", "q", 1)["priority"] == {"$in": PRIORITIES}


def test_a_listener_watches_the_documents_of_its_own_queues() -> None:
    assert wakes_of("acme", ["a", "b"])[0] == {"$match": {"documentKey._id": {"$in": ["acme|a", "acme|b"]}}}


def test_a_change_stream_is_opened_on_the_wakes_with_that_pipeline() -> None:
    server = Server(PLACE)
    collection = mock.MagicMock()
    with mock.patch.object(server, "collection", return_value=collection) as named:
        server.watch(wakes_of("", ["a"]))
    named.assert_called_once_with("wakes")
    collection.watch.assert_called_once_with(wakes_of("", ["a"]))


def test_a_transaction_reads_a_snapshot_and_is_acknowledged_by_a_majority() -> None:
    server = Server(PLACE)
    session = mock.MagicMock()
    client: MongoClient[Any] = MongoClient(PLACE.url, connect=False)
    with (
        mock.patch.object(server, "_database", return_value=server._open(client)),
        mock.patch.object(client, "start_session", return_value=session),
    ):
        server.transact(lambda session, now: None)
    ((_work,), options) = session.__enter__.return_value.with_transaction.call_args
    assert options["read_concern"].level == "snapshot"
    assert options["write_concern"].document == {"w": "majority", "j": True}
    client.close()


def test_each_statement_of_a_settlement_is_in_its_session() -> None:
    """A statement outside of it would stay when the others are rolled back."""
    told: list[tuple[str, Any]] = []

    class Recording(StandInServer):
        client = mongomock.MongoClient()

        def _transact(self, work: Any) -> Any:
            return work("the session", self.now())

        def collection(self, name: str) -> Any:
            return _Recorder(super().collection(name), name, told)

    store = MongoStore(QueueSettings(), PLACE, Recording(PLACE))
    members = [NewMessage(task="t", on_success=[NewMessage(task="u")])]
    store.barriers.create(members, callback=NewMessage(task="c"))
    store.enqueue([NewMessage(task="t", key="k", id=uuid.uuid4())])
    told.clear()
    (member, keyed) = store.operations.browse(limit=10)
    store.cancel([member.id, keyed.id])
    inside = {name for name, session in told if session == "the session"}
    assert {"messages.bulk_write", "keys.update_one", "barriers.find_one_and_update"} <= inside
    outside = {name for name, session in told if session is None}
    assert outside <= {"messages.find", "counters.find_one_and_update", "wakes.bulk_write"}


class _Recorder:
    """A collection that notes which methods were called, and in which session."""

    def __init__(self, collection: Any, name: str, told: list[tuple[str, Any]]) -> None:
        self._collection, self._name, self._told = collection, name, told

    def __getattr__(self, method: str) -> Any:
        def call(*given: Any, session: Any = None, **options: Any) -> Any:
            self._told.append((f"{self._name}.{method}", session))
            return getattr(self._collection, method)(*given, **options)

        return call


def test_a_document_is_one_that_bson_takes_whatever_the_message_holds() -> None:
    message = NewMessage(task="t", args=[2**80], kwargs={"$set": {"a.b": 1}}, on_success=[NewMessage(task="u")])
    document = new_document(message, QueueSettings(), namespace="", now=1, sequence=1, barrier_id=None)
    assert encode(document, check_keys=True)
    held = {**document, "state": "running", "token": uuid.uuid4().hex, "lease_until": 2}
    assert claim_of(held).message.args == [2**80]


@pytest.mark.parametrize(
    "spoilt", [{"_id": 7}, {"_id": "no id"}, {"attempts": "many"}, {"queue": 7}, {"args": {"a": 1}}]
)
def test_a_document_that_no_operation_has_written_stops_nobody(spoilt: dict[str, Any]) -> None:
    class Own(StandInServer):
        client = mongomock.MongoClient()

    server = Own(PLACE)
    store = MongoStore(QueueSettings(), PLACE, server)
    message = new_document(NewMessage(task="t"), QueueSettings(), namespace="", now=1, sequence=0, barrier_id=None)
    server.collection("messages").insert_one(message | {"_id": uuid.uuid4().hex} | spoilt)
    (whole,) = store.enqueue([NewMessage(task="t")])
    lease = timedelta(seconds=60)
    claims = [c for _ in range(3) for c in store.claim(queues=["default"], limit=1, lease=lease, worker="w")]
    assert [one.message.id for one in claims] == [whole]
    assert [(depth.queue, depth.running) for depth in store.depths()] == [("default", 1)]
    assert store.expire_claims(limit=10) == 0
    assert [one.id for one in store.operations.browse(state=MessageState.RUNNING, limit=10)] == [whole]
