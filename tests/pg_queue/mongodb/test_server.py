"""Which servers the MongoDB store takes, and how it deals with a transaction that another has beaten."""

from __future__ import annotations

import sys
from typing import Any
from unittest import mock

import pytest
from pymongo.errors import AutoReconnect, BulkWriteError, DuplicateKeyError

from pg_queue.errors import Configuration, InvalidMessage, StoreUnavailable
from pg_queue.settings import StoreSettings
from pg_queue.storage.mongodb.server import MOST_TRIES, Server, unfit

URL = "mongodb://reader:secret@a.example:27017,b.example/queue?replicaSet=rs0"


def place(url: str = URL, **options: Any) -> StoreSettings:
    return StoreSettings(alias="here", backend="mongodb", url=url, options=options)


class BeatenServer(Server):
    """One whose transactions fail so many times before they are done."""

    def __init__(self, failures: int, error: Exception) -> None:
        super().__init__(place())
        self.failures, self.error, self.tries = failures, error, 0

    def _transact(self, work: Any) -> Any:
        self.tries += 1
        if self.tries <= self.failures:
            raise self.error
        return work(None, 5)


@pytest.mark.parametrize(
    ("hello", "problem"),
    [
        ({"maxWireVersion": 21}, r"replica set, got: a stand-alone server.*a single member will do"),
        ({"maxWireVersion": 21, "msg": "isdbgrid"}, "got: a mongos of a sharded cluster"),
        (
            {"maxWireVersion": 13, "setName": "rs0"},
            "MongoDB 6.0 or later .wire version 17., got: one of wire version 13",
        ),
    ],
)
def test_a_server_that_cannot_hold_a_queue_is_told_why(hello: dict[str, Any], problem: str) -> None:
    client = mock.MagicMock()
    client.admin.command.return_value = hello
    with mock.patch.object(Server, "_connect", return_value=client), pytest.raises(Configuration, match=problem):
        Server(place()).now()


@pytest.mark.parametrize("version", [17, 25])
def test_a_member_of_a_replica_set_of_6_or_later_will_do(version: int) -> None:
    assert unfit({"maxWireVersion": version, "setName": "rs0"}) is None


def test_the_label_has_hosts_and_database_and_no_password() -> None:
    assert Server(place()).label == "a.example:27017,b.example/queue"
    assert Server(place("mongodb://a.example")).label == "a.example/downbeat"


def test_without_the_driver_the_error_says_what_to_install() -> None:
    expected = r"STORES.*here.*BACKEND.*pip install 'django-downbeat\[mongodb\]'"
    with mock.patch.dict(sys.modules, {"pymongo": None}), pytest.raises(Configuration, match=expected):
        Server(place())


@pytest.mark.parametrize("url", ["", "redis://127.0.0.1", "mongodb://"])
def test_an_address_of_another_kind_is_refused(url: str) -> None:
    with pytest.raises(Configuration, match=r"URL.*mongodb://127.0.0.1:27017/downbeat"):
        Server(place(url))


@pytest.mark.parametrize("options", [{"TIMEOUT_SECONDS": 0}, {"TIMEOUT_SECONDS": True}, {"PREFIX": "a"}])
def test_unknown_and_impossible_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(Configuration, match=r"OPTIONS.*TIMEOUT_SECONDS"):
        Server(place(**options))


@pytest.mark.parametrize(
    "error", [DuplicateKeyError("E11000", 11000), BulkWriteError({"writeErrors": [{"code": 11000}]})]
)
def test_work_that_another_has_beaten_to_a_document_begins_anew(error: Exception) -> None:
    server = BeatenServer(MOST_TRIES - 1, error)
    assert server.transact(lambda session, now: now) == 5
    assert server.tries == MOST_TRIES


def test_it_does_not_begin_anew_for_ever() -> None:
    server = BeatenServer(MOST_TRIES, DuplicateKeyError("E11000", 11000))
    with pytest.raises(StoreUnavailable, match="E11000"):
        server.transact(lambda session, now: now)
    assert server.tries == MOST_TRIES


def test_a_write_that_is_refused_for_another_reason_is_not_tried_again() -> None:
    server = BeatenServer(1, BulkWriteError({"writeErrors": [{"code": 10334}]}))
    with pytest.raises(StoreUnavailable, match="BulkWriteError"):
        server.transact(lambda session, now: now)
    assert server.tries == 1


def test_a_lost_connection_is_the_callers_to_know() -> None:
    server = BeatenServer(1, AutoReconnect("lost"))
    with pytest.raises(StoreUnavailable, match=r"a\.example:27017,b\.example/queue: AutoReconnect: lost"):
        server.transact(lambda session, now: now)
    assert server.tries == 1


def test_what_the_work_refuses_is_raised_as_it_is() -> None:
    refusal = InvalidMessage(field="id", expected="another", got="this")
    with pytest.raises(InvalidMessage):
        BeatenServer(1, refusal).transact(lambda session, now: now)
