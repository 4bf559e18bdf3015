"""Celery's broker in a folder loses nothing and gives nothing twice, whoever else reads and writes there."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import Empty
from typing import Any

import kombu
import pytest

MESSAGES = 20
LONG = "x" * 2_000_000
"""Takes a while to write, so that a consumer can come in between."""


@pytest.fixture
def broker(tmp_path: Path) -> kombu.Connection:
    """A connection as Celery makes it with DOWNBEAT_CELERY_BROKER_FOLDER."""
    return kombu.Connection(
        "filesystem://localhost/",
        transport="backend.broker:Transport",
        transport_options=dict.fromkeys(("data_folder_in", "data_folder_out", "control_folder"), str(tmp_path)),
    )


def taken(channel: Any, queue: str) -> list[Any]:
    """What waits in a queue, taken out."""
    found = []
    while True:
        try:
            found.append(channel._get(queue))
        except Empty:
            return found


def test_busy_consumers_take_each_message_once_and_complete(broker: kombu.Connection, tmp_path: Path) -> None:
    is_written = threading.Event()

    def consume() -> list[Any]:
        channel, found = broker.channel(), []
        while not is_written.is_set():
            found += taken(channel, "default")
        return found + taken(channel, "default")

    with ThreadPoolExecutor(2) as consumers:
        founds = [consumers.submit(consume) for _ in range(2)]
        try:
            channel = broker.channel()
            for number in range(MESSAGES):
                channel._put("default", {"number": number, "text": LONG})
        finally:
            is_written.set()
        messages = [message for found in founds for message in found.result(60)]
    assert sorted(message["number"] for message in messages) == list(range(MESSAGES))
    assert {len(message["text"]) for message in messages} == {len(LONG)}
    assert list(tmp_path.iterdir()) == []


def test_a_queue_keeps_its_order_and_its_messages_to_itself(broker: kombu.Connection) -> None:
    channel = broker.channel()
    for queue, number in (("default", 1), ("other.default", 2), ("default", 3)):
        channel._put(queue, number)
    assert [taken(channel, queue) for queue in ("default", "other.default", "default")] == [[1, 3], [2], []]


def test_what_a_killed_writer_left_half_written_is_nobodys_message(broker: kombu.Connection, tmp_path: Path) -> None:
    (tmp_path / ".1_a.default.msg").write_text("")
    channel = broker.channel()
    channel._put("default", "whole")
    assert taken(channel, "default") == ["whole"]
