"""What may be published, and what is refused where it is written."""

from __future__ import annotations

import json
import math
import uuid
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection

from pg_queue import api
from pg_queue.domain import Event
from pg_queue.storage import store

pytestmark = pytest.mark.django_db


def published(topic: str = "t") -> list[Event]:
    return store().outbox.lease([topic], limit=100, lease=timedelta(seconds=60))


@pytest.mark.parametrize(
    ("fields", "error", "field"),
    [
        ({"topic": ""}, api.InvalidMessage, "topic"),
        ({"topic": "t" * 129}, api.InvalidMessage, "topic"),
        ({"topic": "a b"}, api.InvalidMessage, "topic"),
        ({"topic": None}, api.InvalidMessage, "topic"),
        ({"key": "k" * 256}, api.InvalidMessage, "key"),
        ({"key": "a\x00"}, api.InvalidMessage, "key"),
        ({"key": None}, api.InvalidMessage, "key"),
        ({"id": "1"}, api.InvalidMessage, "id"),
        ({"payload": {1, 2}}, api.PayloadNotJSON, "payload"),
        ({"payload": math.nan}, api.PayloadNotJSON, "payload"),
        ({"payload": {"a": {1: 2}}}, api.PayloadNotJSON, "payload"),
        ({"payload": "a\x00b"}, api.PayloadNotJSON, "payload"),
        ({"payload": "x" * 262_145}, api.PayloadTooLarge, "payload"),
        ({"payload": ["x" * 262_145]}, api.PayloadTooLarge, "payload"),
    ],
)
def test_a_bad_event_is_refused_with_its_field_and_nothing_is_stored(
    fields: dict[str, Any], error: type[api.InvalidMessage], field: str
) -> None:
    bad = api.NewEvent(**{"topic": "t", "payload": None, **fields})
    with pytest.raises(error) as caught:
        api.publish_many([api.NewEvent(topic="t", payload=1), bad])
    assert caught.value.field == field
    assert published() == []


def test_an_event_is_published_as_it_was_given() -> None:
    event_id = uuid.uuid4()
    assert api.publish("relay:celery", {"a": [1]}, key="k", id=event_id) == event_id
    (found,) = published("relay:celery")
    assert (found.id, found.payload, found.key) == (event_id, {"a": [1]}, "k")


def test_a_statement_of_the_callers_own_publishes_a_relation() -> None:
    rows = [["t", "key:1", {"n": "50%"}], ["t", "", [1]], ["t", None, None]]
    statement = f"""
        WITH source AS (
            SELECT {api.NEW_ID_SQL} AS id, r ->> 0 AS topic, r ->> 1 AS key, r -> 2 AS payload, 'extra' AS extra
            FROM jsonb_array_elements(%(rows)s::jsonb) AS r
        ),
        published AS ({api.publish_sql("source")})
        SELECT count(*) FROM source
    """
    with connection.cursor() as cursor:
        cursor.execute(statement, {"rows": json.dumps(rows)})
        assert cursor.fetchone() == (3,)
    by_payload = {json.dumps(event.payload): event for event in published()}
    assert len(by_payload) == 3
    assert by_payload['{"n": "50%"}'].key == "key:1"
    assert by_payload["[1]"].key == str(by_payload["[1]"].id)
    assert by_payload["null"].key == str(by_payload["null"].id)
