"""`python -m benchmarks.stores`: what a store takes to enqueue, claim and settle, and how soon it wakes, side by side.

Each store on a server or file of this run's own, made as durable as it can be, by one client with one connection. The
stores take turns, several rounds of them, so that a busy moment of the machine weighs on all alike. Prints one table
and writes JSON. Figures of one run compare with each other only.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import select
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from benchmarks.databases import scratch_database
from benchmarks.services import percentile
from tests import services
from tests.processes import ROOT, child_environment, migrate, sqlite_url

Environment = dict[str, str]
Row = tuple[str, ...]
LEASE = timedelta(seconds=60)
STORES = ("postgres", "sqlite", "redis")


def main() -> None:
    """Measure, print, write; as a child, measure one store and print its figures."""
    options = parse_arguments()
    if options.child:
        print(json.dumps(measure(options)))
        return
    figures: dict[str, Any] = {store: [] for store in options.stores}
    with ExitStack() as stack:
        places = {store: stack.enter_context(PLACES[store]()) for store in options.stores}
        for number in range(options.rounds):
            for store, environment in places.items():
                print(f"… round {number + 1} of {options.rounds}: {store}", file=sys.stderr, flush=True)
                figures[store].append(ask(environment, options))
    machine = {"platform": platform.platform(), "cores": os.cpu_count(), "python": platform.python_version()}
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps({"machine": machine, "stores": figures}, indent=2) + "\n")
    print(f"\n{machine['cores']} cores, medians of {options.rounds} rounds\n")
    for line in aligned(table(figures)):
        print(line)
    print(f"\nwritten to {options.output}")


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stores", nargs="*", choices=STORES, default=[s for s in STORES if is_here(s)])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--messages", type=int, default=10_000, help="enqueued, claimed and settled in batches")
    parser.add_argument("--singles", type=int, default=500, help="enqueued, claimed and settled one by one")
    parser.add_argument("--wakes", type=int, default=100)
    parser.add_argument("--output", type=Path, default=Path(".downbeat/bench-stores.json"))
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def is_here(store: str) -> bool:
    """Whether this machine has what the store needs."""
    return store != "redis" or services.executable("redis-server") is not None


@contextmanager
def postgres() -> Iterator[Environment]:
    """`fsync` on, as PostgreSQL is delivered."""
    with scratch_database() as database:
        yield child_environment(database.url)


@contextmanager
def sqlite() -> Iterator[Environment]:
    """WAL, flushed to the disk at each commit."""
    with tempfile.TemporaryDirectory(prefix="downbeat_bench_") as folder:
        url = sqlite_url(Path(folder) / "queue.sqlite3")
        migrate(url)
        yield child_environment(url)


@contextmanager
def redis() -> Iterator[Environment]:
    """An append-only file, flushed to the disk before each answer."""
    from tests.places import own_redis

    folder = tempfile.TemporaryDirectory(prefix="downbeat_bench_")
    with postgres() as environment, folder as path, own_redis(Path(path)) as url:
        place = {"default": {"BACKEND": "redis", "URL": url}}
        yield {
            **environment,
            "DJANGO_SETTINGS_MODULE": "tests.settings",
            "TEST_PG_QUEUE": json.dumps({"STORES": place}),
        }


PLACES = {"postgres": postgres, "sqlite": sqlite, "redis": redis}


def ask(environment: Environment, options: argparse.Namespace) -> dict[str, float]:
    """The figures of one round on one store, in a process of its own."""
    numbers = [f"--{name}={getattr(options, name)}" for name in ("messages", "singles", "wakes")]
    command = [sys.executable, "-m", "benchmarks.stores", "--child", *numbers]
    done = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def measure(options: argparse.Namespace) -> dict[str, float]:
    """Rates per second and milliseconds, of the store of this process's environment."""
    import django

    django.setup()
    from pg_queue.storage import store

    found = store()
    singles(found, 20)  # connections, scripts and plans
    return {
        **singles(found, options.singles),
        **batches(found, options.messages),
        **wakes(found, options.wakes),
    }


def singles(store: Any, count: int) -> dict[str, float]:
    """One message to a call."""
    from pg_queue.domain import NewMessage

    enqueueing = timed(
        lambda: [store.enqueue([NewMessage(task="noop", kwargs={"a": [1, 2, 3]})]) for _ in range(count)]
    )
    working = timed(lambda: [settle(store, claim(store, 1)) for _ in range(count)])
    return {"enqueue_one": count / enqueueing, "work_one": count / working}


def batches(store: Any, count: int, size: int = 1000, share: int = 100) -> dict[str, float]:
    """1,000 messages to an enqueue, 100 to a claim and to a settlement."""
    from pg_queue.domain import NewMessage

    batch = [NewMessage(task="noop", kwargs={"a": [1, 2, 3]}) for _ in range(size)]
    enqueueing = timed(lambda: [store.enqueue(batch) for _ in range(count // size)])
    claiming = settling = 0.0
    done = 0
    while done < count // size * size:
        began = time.perf_counter()
        claims = claim(store, share)
        claiming += time.perf_counter() - began
        settling += timed(lambda claims=claims: settle(store, claims))
        done += len(claims)
        assert claims, f"{done} of {count}"
    return {"enqueue_batch": done / enqueueing, "claim_batch": done / claiming, "settle_batch": done / settling}


def wakes(store: Any, count: int) -> dict[str, float]:
    """Milliseconds from before an enqueue until a listener of another thread has heard of it."""
    from pg_queue.domain import NewMessage

    listener = store.listen(["default"])
    listener.connect()
    heard_at: list[float] = []
    heard = threading.Event()

    def hear() -> None:
        while len(heard_at) < count:
            select.select([listener.fileno()], [], [], 10)
            if listener.hear():
                heard_at.append(time.perf_counter())
                heard.set()

    thread = threading.Thread(target=hear, daemon=True)
    thread.start()
    found = []
    for _ in range(count):
        heard.clear()
        began = time.perf_counter()
        store.enqueue([NewMessage(task="noop")])
        assert heard.wait(10), "nothing was heard"
        found.append((heard_at[-1] - began) * 1000)
        settle(store, claim(store, 10))
    thread.join(10)
    listener.close()
    return {"wake_p50_ms": percentile(found, 50), "wake_p99_ms": percentile(found, 99)}


def claim(store: Any, limit: int) -> list[Any]:
    """Due messages."""
    claims: list[Any] = store.claim(queues=["default"], limit=limit, lease=LEASE, worker="bench")
    return claims


def settle(store: Any, claims: list[Any]) -> None:
    """They have succeeded."""
    from pg_queue.domain import Settlement, Success

    store.settle([Settlement(message_id=c.message.id, token=c.token, outcome=Success(value=1)) for c in claims])


def timed(work: Callable[[], Any]) -> float:
    """Seconds that it takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


WORDS = {
    "enqueue_one": ("enqueue one to a call", "{:,.0f}/s"),
    "enqueue_batch": ("enqueue 1,000 to a call", "{:,.0f}/s"),
    "work_one": ("claim one and settle it", "{:,.0f}/s"),
    "claim_batch": ("claim 100 to a call", "{:,.0f}/s"),
    "settle_batch": ("settle 100 to a call", "{:,.0f}/s"),
    "wake_p50_ms": ("wake, p50", "{:.1f} ms"),
    "wake_p99_ms": ("wake, p99", "{:.1f} ms"),
}


def table(figures: dict[str, list[dict[str, float]]]) -> list[Row]:
    """The medians as people read them."""
    rows: list[Row] = [("what", *figures)]
    for name, (words, form) in WORDS.items():
        rows.append((words, *(form.format(statistics.median(f[name] for f in rounds)) for rounds in figures.values())))
    return rows


def aligned(rows: list[Row]) -> list[str]:
    """In columns, figures to the right."""
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    return [
        "  ".join(
            cell.rjust(width) if at else cell.ljust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]


if __name__ == "__main__":
    main()
