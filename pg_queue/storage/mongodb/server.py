"""The MongoDB server: connecting, making sure that it will do, transactions, and its errors in the queue's words."""

from __future__ import annotations

import os
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import unquote, urlsplit

from pg_queue.errors import Configuration, StoreUnavailable
from pg_queue.settings import StoreSettings
from pg_queue.storage.instants import as_microseconds

if TYPE_CHECKING:
    from pymongo import MongoClient
    from pymongo.change_stream import CollectionChangeStream
    from pymongo.client_session import ClientSession
    from pymongo.collection import Collection
    from pymongo.database import Database
    from pymongo.errors import PyMongoError

T = TypeVar("T")
Document = dict[str, Any]

LEAST_WIRE_VERSION = 17
"""Of MongoDB 6.0: https://github.com/mongodb/specifications, wire versions."""
TIMEOUT_SECONDS = 10.0
"""How long one command may take, its retries included, where the settings do not say."""
CONNECT_SECONDS = 5.0
DATABASE = "downbeat"
DUPLICATE_KEY = 11000
MOST_TRIES = 5
"""Of a transaction that another has beaten to a new document."""

INDEXES: Mapping[str, Sequence[Sequence[tuple[str, int]]]] = {
    "messages": (
        (("namespace", 1), ("queue", 1), ("state", 1), ("priority", -1), ("run_after", 1), ("sequence", 1)),
        (("token", 1),),
        (("state", 1), ("lease_until", 1)),
        (("namespace", 1), ("owed_to", 1), ("finished_at", 1)),
        (("has_outcome", 1), ("owed_to", 1), ("expires_at", 1)),
        (("is_dead", 1), ("died_at", 1)),
    ),
    "keys": ((("expires_at", 1),), (("message_id", 1),)),
    "barriers": ((("ended_at", 1),),),
    "events": ((("namespace", 1), ("topic", 1), ("run_after", 1), ("sequence", 1)),),
    "locks": ((("expires_at", 1),),),
    "workers": ((("heartbeat_at", 1),),),
}


class Server:
    """One replica set, by the settings of a store. Safe to use from any thread and after a fork."""

    def __init__(self, place: StoreSettings) -> None:
        """Connects to nothing yet. Raises: Configuration, also where pymongo is not installed."""
        self._place, self._timeout = place, _timeout(place)
        _require_driver(place)
        self._name = _database_name(place)
        self.label = f"{urlsplit(place.url).netloc.rpartition('@')[2]}/{self._name}"
        self._client: MongoClient[Document] | None = None
        self._ready_in = 0
        self._starting = threading.Lock()

    def collection(self, name: str) -> Collection[Document]:
        """A collection of the database. Raises: StoreUnavailable, Configuration."""
        return self._database()[name]

    def snapshot(self, name: str) -> Collection[Document]:
        """The same, read as it was at one instant."""
        from pymongo.read_concern import ReadConcern

        return self.collection(name).with_options(read_concern=ReadConcern("snapshot"))

    def now(self) -> int:
        """The instant by the clock of the primary, in microseconds. Raises: StoreUnavailable, Configuration."""
        told: datetime = self._database().client.admin.command("hello")["localTime"]
        return as_microseconds(told if told.tzinfo else told.replace(tzinfo=UTC))

    def numbers(self, count: int) -> int:
        """The first of `count` numbers that ascend and that nobody else gets.

        In no transaction: all that enqueue would wait for each other's end.
        """
        counters = self.collection("counters")
        last = counters.find_one_and_update(
            {"_id": "sequence"}, {"$inc": {"last": count}}, upsert=True, return_document=True
        )
        assert last is not None
        return int(last["last"]) - count + 1

    def transact(self, work: Callable[[ClientSession | None, int], T]) -> T:
        """Do `work(session, now)` in a transaction, again from its start where another one has come between.

        Raises: StoreUnavailable, Configuration, and what `work` raises: then nothing was done.
        """
        from pymongo.errors import BulkWriteError, DuplicateKeyError

        for left in reversed(range(MOST_TRIES)):
            with self.errors():
                try:
                    return self._transact(work)
                except (DuplicateKeyError, BulkWriteError) as error:
                    if not left or not _was_beaten(error):  # else the next snapshot shows `work` what is there
                        raise
        raise AssertionError("the last try returns or raises")

    def wake(self, namespace: str, queues: Sequence[str]) -> None:
        """Tell listeners that these queues may have work. Best effort: they poll all the same."""
        from pymongo import UpdateOne
        from pymongo.errors import PyMongoError

        calls = [
            UpdateOne(
                {"_id": wake_id(namespace, queue)},
                {"$inc": {"calls": 1}, "$setOnInsert": {"namespace": namespace, "queue": queue}},
                upsert=True,
            )
            for queue in sorted(set(queues))
        ]
        try:
            if calls:
                self.collection("wakes").bulk_write(calls, ordered=False)
        except PyMongoError:  # what is to be claimed is committed; its enqueueing must not fail by this
            return

    def wake_all(self, woken: Iterable[tuple[str, str]]) -> None:
        """The same for pairs of a namespace and a queue."""
        queues: defaultdict[str, list[str]] = defaultdict(list)
        for namespace, queue in woken:
            queues[namespace].append(queue)
        for namespace, names in queues.items():
            self.wake(namespace, names)

    def watch(self, pipeline: Sequence[Document]) -> CollectionChangeStream[Document]:
        """What is written to `wakes` from now on, as this pipeline shows it. Raises: as `collection`."""
        with self.errors():
            return self.collection("wakes").watch(list(pipeline))

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Within: what the server, or the connection to it, raises is `StoreUnavailable`."""
        from pymongo.errors import PyMongoError

        try:
            yield
        except (PyMongoError, OSError) as error:
            raise StoreUnavailable(f"MongoDB at {self.label}: {type(error).__name__}: {error}") from error

    def _transact(self, work: Callable[[ClientSession | None, int], T]) -> T:
        from pymongo.read_concern import ReadConcern
        from pymongo.read_preferences import ReadPreference

        database = self._database()
        with database.client.start_session() as session:
            return session.with_transaction(
                lambda one: work(one, self.now()),
                read_concern=ReadConcern("snapshot"),
                write_concern=database.write_concern,
                read_preference=ReadPreference.PRIMARY,
            )

    def _database(self) -> Database[Document]:
        """Of this process: a client does not outlive a fork. Checked, with its indexes, at the first use."""
        if self._ready_in != os.getpid():
            with self._starting:
                if self._ready_in != os.getpid():
                    self._client = self._connect()
                    self._check(self._client.admin.command("hello"))
                    self._make_indexes(self._open(self._client))
                    self._ready_in = os.getpid()
        assert self._client is not None
        return self._open(self._client)

    def _connect(self) -> MongoClient[Document]:
        from pymongo import MongoClient
        from pymongo.errors import ConfigurationError, InvalidURI

        try:
            return MongoClient(
                self._place.url,
                timeoutMS=round(self._timeout * 1000),
                serverSelectionTimeoutMS=round(min(self._timeout, CONNECT_SECONDS) * 1000),
                tz_aware=True,
                unicode_decode_error_handler="replace",  # what was written by hand is to be read, and buried
                appname="downbeat",
            )
        except (ConfigurationError, InvalidURI, ValueError) as error:
            expected = "an address such as mongodb://127.0.0.1:27017/downbeat?replicaSet=rs0"
            raise self._place.wrong("URL", expected, f"{self.label} ({type(error).__name__})") from error

    def _open(self, client: MongoClient[Document]) -> Database[Document]:
        """What is acknowledged is on the disks of a majority, and what is read was: no failover takes it back."""
        from pymongo.read_concern import ReadConcern
        from pymongo.read_preferences import ReadPreference
        from pymongo.write_concern import WriteConcern

        return client.get_database(
            self._name,
            read_preference=ReadPreference.PRIMARY,
            read_concern=ReadConcern("majority"),
            write_concern=WriteConcern("majority", j=True),
        )

    def _check(self, hello: Mapping[str, Any]) -> None:
        if problem := unfit(hello):
            raise Configuration(f"MongoDB at {self.label}: {problem}")

    def _make_indexes(self, database: Database[Document]) -> None:
        from pymongo import IndexModel

        for name, indexes in INDEXES.items():
            database[name].create_indexes([IndexModel(list(keys)) for keys in indexes])
        for name in ("wakes", "switches", "counters"):  # a transaction creates none that another just created
            if name not in database.list_collection_names():
                database[name].update_one({"_id": ""}, {"$setOnInsert": {"is_empty": True}}, upsert=True)


def unfit(hello: Mapping[str, Any]) -> str | None:
    """Why a server that says this of itself (`hello`) cannot hold a queue; None: it can."""
    if not hello.get("setName"):
        got = "a mongos of a sharded cluster" if hello.get("msg") == "isdbgrid" else "a stand-alone server"
        return (
            f"expected a member of a replica set, got: {got}. A settlement and what follows from it are one "
            "transaction of several documents, which needs one; a set of a single member will do"
        )
    if int(hello.get("maxWireVersion", 0)) < LEAST_WIRE_VERSION:
        got = f"one of wire version {hello.get('maxWireVersion')}"
        return f"expected MongoDB 6.0 or later (wire version {LEAST_WIRE_VERSION}), got: {got}"
    return None


def _was_beaten(error: PyMongoError) -> bool:
    """Whether a document could not be inserted because one of its id is there."""
    details = getattr(error, "details", None) or {}
    codes = {one.get("code") for one in details.get("writeErrors", ())} | {getattr(error, "code", None)}
    return DUPLICATE_KEY in codes


def wake_id(namespace: str, queue: str) -> str:
    """The id of the document whose change wakes those who listen to a queue; a namespace has no `|` in it."""
    return f"{namespace}|{queue}"


def _timeout(place: StoreSettings) -> float:
    if unknown := sorted(set(place.options) - {"TIMEOUT_SECONDS"}, key=str):
        raise place.wrong("OPTIONS", "keys among TIMEOUT_SECONDS", repr(unknown[0]))
    timeout = place.options.get("TIMEOUT_SECONDS", TIMEOUT_SECONDS)
    if isinstance(timeout, bool) or not isinstance(timeout, int | float) or not 0 < timeout <= 3600:
        raise place.wrong("OPTIONS", "TIMEOUT_SECONDS above 0, at most 3600", repr(timeout))
    return float(timeout)


def _require_driver(place: StoreSettings) -> None:
    try:
        import pymongo  # noqa: F401 - only to see that it is there
    except ImportError as error:
        needed = "pymongo, which `pip install 'django-downbeat[mongodb]'` brings"
        raise place.wrong("BACKEND", needed, f"'mongodb' ({error})") from error


def _database_name(place: StoreSettings) -> str:
    parts = urlsplit(place.url)
    if parts.scheme not in {"mongodb", "mongodb+srv"} or not parts.netloc:
        got = f"{parts.scheme}://…" if parts.scheme else "none"
        raise place.wrong("URL", "an address such as mongodb://127.0.0.1:27017/downbeat?replicaSet=rs0", got)
    return unquote(parts.path.strip("/")) or DATABASE
