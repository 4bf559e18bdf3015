"""What may be a group, and what is refused where it is written."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest

from pg_queue import api
from pg_queue.models import Barrier, Message

pytestmark = pytest.mark.django_db

PLAIN = api.NewMessage(task="test.grouped")


@pytest.fixture(autouse=True)
def _tasks() -> None:
    api.task("test.grouped", max_attempts=9)(lambda: None)


def test_members_take_their_tasks_own_attempts_and_the_barrier_is_found() -> None:
    barrier = api.group([PLAIN, replace(PLAIN, max_attempts=2)], callback=PLAIN, on_abort=PLAIN)
    messages = api.get_messages(barrier.member_ids)
    assert [messages[one].max_attempts for one in barrier.member_ids] == [9, 2]
    assert {message.barrier_id for message in messages.values()} == {barrier.id}
    assert api.get_barriers([barrier.id]) == {barrier.id: barrier}
    assert (barrier.state, barrier.remaining) == (api.BarrierState.OPEN, 2)


@pytest.mark.parametrize(
    ("part", "fields", "error", "field"),
    [
        ("members", {"args": [{1, 2}]}, api.PayloadNotJSON, "members[1].args"),
        ("members", {"key": "k"}, api.InvalidMessage, "members[1].key"),
        (
            "members",
            {"on_success": [replace(PLAIN, priority=11)]},
            api.InvalidMessage,
            "members[1].on_success[0].priority",
        ),
        ("callback", {"run_after": datetime(2030, 1, 1)}, api.InvalidMessage, "callback.run_after"),
        ("callback", {"key": "k"}, api.InvalidMessage, "callback.key"),
        ("on_abort", {"queue": "a b"}, api.InvalidMessage, "on_abort.queue"),
        ("on_abort", {"key": "k"}, api.InvalidMessage, "on_abort.key"),
    ],
)
def test_a_bad_part_is_refused_with_the_way_to_its_field_and_nothing_is_stored(
    part: str, fields: dict[str, Any], error: type[api.InvalidMessage], field: str
) -> None:
    bad = replace(PLAIN, **fields)
    parts: dict[str, Any] = {"members": [PLAIN], part: [PLAIN, bad] if part == "members" else bad}
    with pytest.raises(error) as caught:
        api.group(**parts)
    assert caught.value.field == field
    assert not Message.objects.exists()
    assert not Barrier.objects.exists()


@pytest.mark.parametrize("members", ["text", [PLAIN, "text"], None])
def test_members_are_messages(members: Any) -> None:
    with pytest.raises(api.InvalidMessage) as caught:
        api.group(members)
    assert caught.value.field == "members"


def test_an_unknown_task_is_refused_wherever_it_is() -> None:
    with pytest.raises(api.UnknownTask):
        api.group([PLAIN], callback=api.NewMessage(task="test.unknown"))
    assert not Message.objects.exists()
