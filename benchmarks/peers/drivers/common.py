"""What every driver has in common. Standard library only: it is imported in each peer's own environment."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any, Protocol


class Client(Protocol):
    """One queue, as the benchmark asks of it. Its task `noop` takes the instant of its enqueueing and notes it."""

    def set_up(self) -> None:
        """Make the queue's tables in an empty database, and connect."""

    def enqueue(self, sent_at: float) -> None:
        """Enqueue one message, in a transaction of its own."""

    def enqueue_many(self, sent_at: float, count: int) -> None:
        """Enqueue so many by the fastest call that the queue has, in one transaction."""

    def pending(self) -> int:
        """How many are not finished, by what the queue has stored."""

    def clear(self) -> None:
        """Forget everything that is stored, and let the server gather statistics."""


def note(sent_at: float) -> None:
    """The task's body: nothing; but where the benchmark has asked when work begins, a line for it."""
    if sent_at:
        line = f"{sent_at!r} {time.time()!r}\n".encode()
        descriptor = os.open(os.environ["BENCH_NOTES"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(descriptor, line)
        os.close(descriptor)


def serve(make_client: Callable[[], Client], work: Callable[[], Any]) -> None:
    """`driver.py worker` works; without an argument, orders are carried out line by line, each answered by one."""
    if sys.argv[1:] == ["worker"]:
        work()
        return
    client = make_client()
    orders: dict[str, Callable[..., Any]] = {
        "set_up": client.set_up,
        "one": lambda count: _seconds(lambda: [client.enqueue(0.0) for _ in range(count)]),
        "batch": lambda count: _seconds(lambda: _in_calls(client, count)),
        "send": lambda: client.enqueue(time.time()),
        "pending": client.pending,
        "clear": client.clear,
    }
    for line in sys.stdin:
        name, *numbers = line.split()
        print(json.dumps(orders[name](*map(int, numbers))), flush=True)


def _in_calls(client: Client, count: int, size: int = 1000) -> None:
    for _ in range(count // size):
        client.enqueue_many(0.0, size)


def _seconds(work: Callable[[], Any]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began
