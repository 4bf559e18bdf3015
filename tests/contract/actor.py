"""A process of its own at the store under test: `python -m tests.contract.actor [seconds]`.

Reads a command a line, a JSON object whose key `do` names a function below, and answers each by a line of JSON. Its
clock is wrong by `seconds`, whatever of Python's clocks is asked.
"""

from __future__ import annotations

import datetime as datetime_module
import gc
import json
import sys
import time
import uuid
from typing import Any


def shift_clock(seconds: float) -> None:
    """Make every clock of this process wrong; to be called before anything else is imported."""
    right_time, right_time_ns, right = time.time, time.time_ns, datetime_module.datetime
    time.time = lambda: right_time() + seconds
    time.time_ns = lambda: right_time_ns() + int(seconds * 1e9)

    class AnyDatetime(type):
        def __instancecheck__(cls, value: object) -> bool:
            return isinstance(value, right)

    class WrongDatetime(right, metaclass=AnyDatetime):
        @classmethod
        def now(cls, tz: datetime_module.tzinfo | None = None) -> Any:
            return right.now(tz) + datetime_module.timedelta(seconds=seconds)

    datetime_module.datetime = WrongDatetime  # type: ignore[misc]


def enqueue(count: int, **fields: Any) -> list[str]:
    """Enqueue `count` messages; their ids."""
    from pg_queue.domain import NewMessage

    if "run_after" in fields:
        fields["run_after"] = datetime_module.datetime.fromisoformat(fields["run_after"])
    if "key_ttl" in fields:
        fields["key_ttl"] = datetime_module.timedelta(seconds=fields["key_ttl"])
    return [str(i) for i in store().enqueue([NewMessage(task="noop", **fields) for _ in range(count)])]


def claim(limit: int, worker: str, lease: float = 60) -> list[dict[str, Any]]:
    """Claim; each claim's id, token and seconds of lease."""
    found = store().claim(
        queues=["default"], limit=limit, lease=datetime_module.timedelta(seconds=lease), worker=worker
    )
    return [{"id": str(c.message.id), "token": str(c.token), "lease_until": c.lease_until.isoformat()} for c in found]


def take_tokens(seconds: float, count: int, burst: int) -> int:
    """Take from one bucket of so many a second, one by one for so long; how many."""
    from pg_queue.domain import RateLimit

    limit, until, taken = RateLimit(count=count, period_seconds=1, burst=burst), time.monotonic() + seconds, 0
    while time.monotonic() < until:
        taken += store().limits.take("shared", limit, wanted=1).count
    return taken


def settle(claims: list[dict[str, Any]]) -> list[str]:
    """Settle claims as successes; what became of each."""
    from pg_queue.domain import Settlement, Success

    settlements = [
        Settlement(message_id=uuid.UUID(c["id"]), token=uuid.UUID(c["token"]), outcome=Success(value=c["id"]))
        for c in claims
    ]
    answers = store().settle(settlements)
    return [answers[s.token] for s in settlements]


def drain(limit: int, worker: str) -> list[str]:
    """Claim and settle until nothing is due; the ids whose settlement held."""
    done: list[str] = []
    while claims := claim(limit, worker):
        done += [c["id"] for c, answer in zip(claims, settle(claims), strict=True) if answer == "done"]
    return done


def expire() -> int:
    """Take expired claims back."""
    return store().expire_claims(limit=1000)


def acquire(names: list[str], ttl: float) -> list[str]:
    """Take locks; the names of those that are this process's now."""
    return [name for name in names if store().locks.acquire(name, ttl=datetime_module.timedelta(seconds=ttl))]


def store() -> Any:
    """The store of this process's environment."""
    from pg_queue.storage import store

    return store()


def _serve() -> None:
    import django

    gc.disable()  # it lives for seconds
    django.setup()
    functions = {one.__name__: one for one in (enqueue, claim, settle, drain, expire, acquire, take_tokens)}
    print("ready", flush=True)  # noqa: T201 - its answers
    for line in sys.stdin:
        command = json.loads(line)
        print(json.dumps(_done(functions[command.pop("do")], command)), flush=True)  # noqa: T201


def _done(function: Any, arguments: dict[str, Any]) -> dict[str, Any]:
    """What it returned, or that the server failed; nothing else may be raised."""
    from django.db import InterfaceError, OperationalError, connections

    from pg_queue.errors import StoreUnavailable

    try:
        return {"returned": function(**arguments)}
    except (OperationalError, InterfaceError, StoreUnavailable) as error:
        connections.close_all()
        return {"failed": f"{type(error).__name__}: {error}"}


if __name__ == "__main__":
    if sys.argv[1:]:
        shift_clock(float(sys.argv[1]))
    _serve()
