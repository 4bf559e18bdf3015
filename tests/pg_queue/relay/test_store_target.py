"""Another store as a target: what its database does to the connection is no reason to stay away for ever."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection, connections
from django.utils.connection import ConnectionProxy

from pg_queue.domain import NewEvent, NewMessage
from pg_queue.relay.courier import Courier
from pg_queue.routes import STORE
from pg_queue.storage import store

pytestmark = pytest.mark.django_db(transaction=True, available_apps=["pg_queue"], databases=["default", "far"])
TOPIC = f"{STORE}far"


@pytest.fixture(scope="module")
def far_alias(django_db_setup: None) -> Iterator[ConnectionProxy]:
    """The same database under another alias, and so with another connection."""
    connections.databases["far"] = {**connections.databases["default"], "NAME": connection.settings_dict["NAME"]}
    yield ConnectionProxy(connections, "far")
    connections["far"].close()
    del connections["far"]
    del connections.databases["far"]


@pytest.fixture
def far(far_alias: ConnectionProxy, settings: Any) -> ConnectionProxy:
    """The connection of a store that the queue `away` leads to."""
    settings.PG_QUEUE = {
        "STORES": {"default": {}, "far": {"DATABASE": "far", "NAMESPACE": "far"}},
        "ROUTES": {"away": {"STORE": "far"}},
    }
    return far_alias


def put() -> uuid.UUID:
    message_id = uuid.uuid4()
    payload = {"id": str(message_id), "task": "noop", "queue": "away"}
    return store().outbox.publish([NewEvent(topic=TOPIC, payload=payload, id=message_id)])[0]


def test_after_its_server_has_ended_the_session_the_next_round_has_a_new_one(far: ConnectionProxy) -> None:
    store("far").enqueue([NewMessage(task="noop")])
    with far.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        (pid,) = cursor.fetchone()
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(%s)", [pid])
    message_id = put()
    made = Courier(TOPIC).make_round()
    assert (made.taken, made.refused, made.error) == (1, 0, "")
    assert message_id in store("far").get([message_id])
