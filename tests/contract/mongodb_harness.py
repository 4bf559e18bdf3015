"""The MongoDB store under test: on the server of `TEST_MONGODB_URL`, in a database of its own; else on a stand-in.

The stand-in is mongomock. It has no transactions, no clock of its own, no change streams, and lives in this process: it
shows what the store's statements do when nothing fails and nobody comes between. What needs more is skipped there.
"""

from __future__ import annotations

import json
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar
from unittest import mock
from urllib.parse import urlsplit, urlunsplit

import mongomock
import mongomock.collection
import pytest
from django.db import connection
from django.test import override_settings
from pymongo import MongoClient
from pymongo.errors import AutoReconnect

from pg_queue.domain import NewMessage
from pg_queue.errors import StoreUnavailable
from pg_queue.ports import QueueStore
from pg_queue.settings import QueueSettings, StoreSettings
from pg_queue.storage import store
from pg_queue.storage.mongodb import MongoStore
from pg_queue.storage.mongodb.server import Server
from tests.processes import child_environment, database_url

T = TypeVar("T")

LIVE_URL = os.environ.get("TEST_MONGODB_URL", "")
DATABASE = f"downbeat_test_{os.getpid()}_{uuid.uuid4().hex[:8]}"
IS_STAND_IN = not LIVE_URL
STAND_IN_LACKS = "the stand-in mongomock lacks transactions that roll back, processes and change streams"
NOT_ISOLATED = "on the stand-in mongomock threads see what others are in the midst of"

INSTANTS = {
    "messages": (
        "run_after",
        "enqueued_at",
        "started_at",
        "finished_at",
        "held_until",
        "died_at",
        "expires_at",
        "lease_until",
    ),
    "keys": ("expires_at",),
    "barriers": ("created_at", "ended_at"),
    "events": ("created_at", "run_after"),
    "locks": ("expires_at",),
    "limits": ("full_at",),
    "switches": ("changed_at",),
    "workers": ("started_at", "heartbeat_at", "stopped_at"),
}


_add_update = mongomock.collection.BulkOperationBuilder.add_update


def _add_update_without_sort(builder: Any, *given: Any, sort: Any = None, **options: Any) -> Any:
    """mongomock 4.3 does not know an option that newer versions of pymongo always give."""
    assert sort is None
    return _add_update(builder, *given, **options)


mongomock.collection.BulkOperationBuilder.add_update = _add_update_without_sort


class StandInServer(Server):
    """mongomock in the place of a replica set: work in a transaction is done at once, one at a time, undone never."""

    client = mongomock.MongoClient()
    _turn = threading.RLock()

    def _database(self) -> Any:
        return self.client[self._name]

    def snapshot(self, name: str) -> Any:
        return self.collection(name)

    def now(self) -> int:
        return time.time_ns() // 1000

    def _transact(self, work: Callable[[Any, int], T]) -> T:
        with self._turn:
            before = self._size()
            try:
                return work(None, self.now())
            except Exception:
                if self._size() != before:
                    pytest.skip(STAND_IN_LACKS)  # a server would have rolled it back
                raise

    def watch(self, pipeline: Any) -> Any:
        pytest.skip(STAND_IN_LACKS)

    def _size(self) -> int:
        return sum(self.collection(name).estimated_document_count() for name in INSTANTS)


def stand_in_store(conf: QueueSettings, place: StoreSettings) -> MongoStore:
    """The backend of the stand-in."""
    return MongoStore(conf, place, StandInServer(place))


def require_isolation() -> None:
    """Skips where the store under test is the stand-in: what threads show there is true of mongomock only."""
    if isinstance(getattr(store(), "_server", None), StandInServer):
        pytest.skip(NOT_ISOLATED)


class MongoHarness:
    """See `tests.contract.harness.Harness`."""

    services = ()
    failures = (StoreUnavailable,)
    has_server_clock = True
    has_one_writer = False

    def __init__(self) -> None:
        url = LIVE_URL or "mongodb://127.0.0.1:27017/?replicaSet=rs0"
        backend = "tests.contract.mongodb_harness.stand_in_store" if IS_STAND_IN else "mongodb"
        parts = urlsplit(url)
        self._stores = {
            "default": {"BACKEND": backend, "URL": urlunsplit(parts._replace(path=f"/{DATABASE}"))},
        }

    @contextmanager
    def installed(self) -> Iterator[None]:
        """See the protocol."""
        with override_settings(PG_QUEUE={"STORES": self._stores}):
            try:
                yield
            finally:
                self._database.client.drop_database(DATABASE)

    @property
    def store(self) -> QueueStore:
        """See the protocol."""
        return store()

    def environment(self) -> dict[str, str]:
        """See the protocol."""
        self._require_live()
        own = {"DJANGO_SETTINGS_MODULE": "tests.settings", "TEST_PG_QUEUE": json.dumps({"STORES": self._stores})}
        migrated = database_url(os.environ["DATABASE_URL"], connection.settings_dict["NAME"])
        return child_environment(migrated) | own

    def spoil(self) -> uuid.UUID:
        """A number of more digits than Python converts."""
        (message_id,) = self.store.enqueue([NewMessage(task="noop")])
        spoilt = {"$set": {"args": f"[{'9' * 5000}]"}}
        self._database["messages"].update_one({"_id": message_id.hex}, spoilt)
        return message_id

    def spoil_event(self, event_id: uuid.UUID) -> None:
        """A number of more digits than Python converts."""
        spoilt = {"$set": {"payload": f"[{'9' * 5000}]"}}
        self._database["events"].update_one({"_id": event_id.hex}, spoilt)

    def clear(self) -> None:
        """See the protocol. The indexes stay."""
        for name in (*INSTANTS, "wakes"):
            self._database[name].delete_many({})

    def advance(self, seconds: float) -> None:
        """Every stored instant moves into the past: the same as the clock moving on."""
        for name, fields in INSTANTS.items():
            for field in fields:
                moved = {"$inc": {field: -round(seconds * 1e6)}}
                self._database[name].update_many({field: {"$gt": 0}}, moved)

    @property
    def cut_points(self) -> tuple[str, ...]:
        """See the protocol."""
        self._require_live()
        return ("insert", "update", "delete", "findAndModify", "commitTransaction")

    @contextmanager
    def cut_at(self, point: str) -> Iterator[None]:
        """The connection is lost before the first command of this name is sent."""
        from pymongo.synchronous.pool import Connection

        send = Connection.command

        def cut(connection: Any, dbname: str, spec: Any, *rest: Any, **options: Any) -> Any:
            if point in spec:
                connection.close_conn("error")
                raise AutoReconnect("cut off")
            return send(connection, dbname, spec, *rest, **options)

        with mock.patch.object(Connection, "command", cut):
            yield

    @property
    def _database(self) -> Any:
        client = StandInServer.client if IS_STAND_IN else _live_client()
        return client[DATABASE]

    def _require_live(self) -> None:
        if IS_STAND_IN:
            pytest.skip(STAND_IN_LACKS)


_clients: list[MongoClient[dict[str, Any]]] = []


def _live_client() -> MongoClient[dict[str, Any]]:
    if not _clients:
        _clients.append(MongoClient(LIVE_URL))
    return _clients[0]
