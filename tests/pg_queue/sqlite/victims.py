"""Writers that are killed: `python -m tests.pg_queue.sqlite.victims <times>` on the queue of `DATABASE_URL`.

This process opens no connection. It forks writers one after another, kills each at a random instant of its work, and
prints a JSON object a line of what each had said by then: the ids of every batch that it `tried` to enqueue, of those
that it had `enqueued`, and of the messages that it had `settled`.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
import uuid
from datetime import timedelta

import django

BATCH = 20


def write_on(said: int) -> None:
    """Enqueue, claim and settle without end, and say what was done once it is committed."""
    from pg_queue.domain import NewMessage, Settlement, Success
    from pg_queue.storage import store

    def say(what: str, ids: list[str]) -> None:
        os.write(said, (json.dumps([what, ids]) + "\n").encode())

    while True:
        batch = [NewMessage(task="noop", id=uuid.uuid4(), args=["x" * 500]) for _ in range(BATCH)]
        say("tried", [str(message.id) for message in batch])
        say("enqueued", [str(one) for one in store().enqueue(batch)])
        claims = store().claim(queues=["default"], limit=BATCH // 2, lease=timedelta(seconds=600), worker="victim")
        settlements = [Settlement(message_id=c.message.id, token=c.token, outcome=Success(value=1)) for c in claims]
        store().settle(settlements)
        say("settled", [str(claim.message.id) for claim in claims])


def kill_one() -> dict[str, list[list[str]]]:
    """Fork a writer, kill it, and tell what it said."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(read)
        write_on(write)
    os.close(write)
    with os.fdopen(read, "rb") as said:
        before = [said.readline() for _ in range(random.randrange(1, 10))]
        time.sleep(random.uniform(0, 0.02))
        os.kill(pid, signal.SIGKILL)
        lines = [line for line in [*before, *said.readlines()] if line.endswith(b"\n")]
    os.waitpid(pid, 0)
    told: dict[str, list[list[str]]] = {"tried": [], "enqueued": [], "settled": []}
    for what, ids in map(json.loads, lines):
        told[what].append(ids)
    return told


if __name__ == "__main__":
    django.setup()
    import pg_queue.storage.sqlite  # noqa: F401 - once, for all writers

    for _ in range(int(sys.argv[1])):
        print(json.dumps(kill_one()), flush=True)  # noqa: T201
