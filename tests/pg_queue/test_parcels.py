"""Messages inside other rows: what goes in comes out."""

from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime, timedelta

import pytest

from pg_queue.domain import NewMessage
from pg_queue.storage.parcels import pack, pack_continuations, unpack, unpack_continuations

PLAIN = NewMessage(task="plain")
FULL = NewMessage(
    task="full",
    args=[1, None, {"a": ["ü"]}],
    kwargs={"k": 1.5},
    queue="q",
    priority=9,
    run_after=datetime(2130, 1, 2, 3, 4, 5, 678901, tzinfo=UTC),
    max_attempts=7,
    headers={"h": "v"},
    organization_id="acme",
    report_to="me",
    id=uuid.uuid4(),
    key="once",
    key_ttl=timedelta(0),
    on_success=[NewMessage(task="nested", on_failure=[PLAIN])],
    on_failure=[PLAIN],
)


@pytest.mark.parametrize("message", [PLAIN, FULL])
def test_a_message_comes_back_as_it_was(message: NewMessage) -> None:
    assert unpack(json.loads(json.dumps(pack(message)))) == message


def test_what_is_a_default_takes_no_room() -> None:
    assert pack(PLAIN) == {"task": "plain"}


def test_continuations_are_told_apart_by_the_end() -> None:
    stored = json.loads(json.dumps(pack_continuations(FULL)))
    assert unpack_continuations(stored, succeeded=True) == list(FULL.on_success)
    assert unpack_continuations(stored, succeeded=False) == list(FULL.on_failure)
    assert pack_continuations(PLAIN) is None
    assert unpack_continuations(None, succeeded=True) == []


@pytest.mark.parametrize("parcel", [{}, {"task": "t", "colour": "red"}, {"task": "t", "id": "no"}])
def test_what_is_no_parcel_is_refused(parcel: dict[str, str]) -> None:
    with pytest.raises((TypeError, ValueError)):
        unpack(parcel)
