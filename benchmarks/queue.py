"""`python -m benchmarks.queue`: enqueue, drain and idle latency of the queue, in one run, and beside other queues.

Prints one table and writes JSON. Figures of one run compare with each other only: machines differ, and are noisy.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "backend.settings")

Row = tuple[str, str, str]

BARE_TABLE = """
    CREATE TABLE IF NOT EXISTS bare_message (
        id uuid PRIMARY KEY, queue text NOT NULL, priority smallint NOT NULL, task text NOT NULL, args jsonb NOT NULL,
        kwargs jsonb NOT NULL, run_after timestamptz NOT NULL DEFAULT now(), sequence bigserial, claim_token uuid
    );
    CREATE INDEX IF NOT EXISTS bare_message_ready ON bare_message (queue, priority, run_after, sequence)
        WHERE claim_token IS NULL;
    TRUNCATE bare_message
"""
BARE_INSERT = """
    INSERT INTO bare_message (id, queue, priority, task, args, kwargs)
    VALUES (gen_random_uuid(), %s, %s, %s, %s::jsonb, %s::jsonb)
"""
FILL = """
    INSERT INTO pg_queue_message (task, args, kwargs, headers, max_attempts, run_after)
    SELECT %s, '[]', '{}', '{}', 3, now() FROM generate_series(1, %s)
"""
NOOPS = {"value": "noop", "nothing": "bench.forgotten"}
"""Tasks that do nothing, by what is kept of their success."""
QUIET = {"DOWNBEAT_LOG_LEVEL": "WARNING", "DJANGO_SETTINGS_MODULE": "benchmarks.settings"}


def main() -> None:
    """Measure, print, write."""
    options = parse_arguments()
    from benchmarks.databases import scratch_database

    with scratch_database() as database:
        os.environ["DATABASE_URL"] = database.url
        django.setup()
        with database.connect() as session:
            figures = measure(database, session, options)
        from django.db import connections

        connections.close_all()
    figures["machine"] = {"platform": platform.platform(), "cores": os.cpu_count(), "python": platform.python_version()}
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(figures, indent=2) + "\n")
    print_table(figures)
    print(f"\nwritten to {options.output}")


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=5, help="interleaved pairs of ours and the bare INSERT")
    parser.add_argument("--messages", type=int, default=20_000, help="messages to drain")
    parser.add_argument("--concurrency", type=int, nargs="*", default=[1, 2], help="children of the one worker process")
    parser.add_argument("--idle-messages", type=int, default=200)
    parser.add_argument("--output", type=Path, default=Path(".downbeat/bench-queue.json"))
    parser.add_argument("--members", type=int, nargs="*", default=[1000, 10_000, 100_000], help="sizes of the groups")
    parser.add_argument("--rounds", type=int, default=2, help="rounds of ours and the peers, side by side")
    parser.add_argument("--peers", nargs="*", default=[], help="words of those to compare with; none: all")
    parser.add_argument("--only", nargs="*", help="one, batch, drain, idle, group, peers")
    return parser.parse_args()


def measure(database: Any, session: Any, options: argparse.Namespace) -> dict[str, Any]:
    """Every section that was asked for, by name."""
    from benchmarks.databases import server_facts
    from benchmarks.peers import run as peers
    from benchmarks.peers.measuring import Sizes

    sections: dict[str, Callable[[], Any]] = {
        "one": lambda: enqueue_one_rates(session, options.pairs),
        "batch": lambda: enqueue_batch_rates(session, options.pairs),
        "drain": lambda: {n: drain_both(database, session, options.messages, n) for n in options.concurrency},
        "idle": lambda: idle_latencies_ms(database, session, options.idle_messages),
        "group": lambda: {n: group_seconds(session, n) for n in options.members},
        "peers": lambda: peers.compare(
            database.url, rounds=options.rounds, sizes=Sizes(), only=options.peers, say=peers.tell
        ),
    }
    figures: dict[str, Any] = {"server": server_facts(session)}
    for name, section in sections.items():
        if not options.only or name in options.only:
            print(f"… {name}", file=sys.stderr, flush=True)
            figures[name] = section()
    return figures


def enqueue_one_rates(session: Any, pairs: int, count: int = 1000) -> dict[str, list[float]]:
    """Messages per second, one transaction each, interleaved: the bare INSERT, ours, both also by a prepared statement.

    The bare one has the columns, the constraints and the index that any queue needs, and wakes nobody.
    """
    from pg_queue import api

    session.execute(BARE_TABLE)
    bare = ["default", 5, "noop", '{"tenant": 1}', '{"a": [1, 2, 3]}']
    ways: dict[str, Callable[[], Any]] = {
        "bare": lambda: session.execute(BARE_INSERT, bare, prepare=False),
        "bare_prepared": lambda: session.execute(BARE_INSERT, bare, prepare=True),
        "ours": lambda: api.enqueue("noop", kwargs={"a": [1, 2, 3]}),
    }
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(pairs):
        for name, way in ways.items():
            way()
            rates[name].append(count / timed(lambda way=way: [way() for _ in range(count)]))
    return rates


def enqueue_batch_rates(session: Any, pairs: int, calls: int = 20, size: int = 1000) -> dict[str, list[float]]:
    """Messages per second, 1,000 to a call and a transaction: ours, and the bare multi-row INSERT by `unnest`."""
    from pg_queue import api

    session.execute(BARE_TABLE)
    batch = [api.NewMessage(task="noop", kwargs={"a": [1, 2, 3]}) for _ in range(size)]
    rates: dict[str, list[float]] = {"ours": [], "bare": []}
    for _ in range(pairs):
        empty(session)
        rates["ours"].append(calls * size / timed(lambda: [api.enqueue_many(batch) for _ in range(calls)]))
        session.execute("TRUNCATE bare_message")
        rates["bare"].append(calls * size / timed(lambda: [insert_bare(session, size) for _ in range(calls)]))
    return rates


def insert_bare(session: Any, size: int) -> None:
    """One bare INSERT of so many rows, from one array."""
    session.execute(
        """
        INSERT INTO bare_message (id, queue, priority, task, args, kwargs)
        SELECT gen_random_uuid(), 'default', 5, 'noop', '[]', k::jsonb FROM unnest(%b::text[]) AS k
        """,
        [['{"a": [1, 2, 3]}'] * size],
    )


def drain_both(database: Any, session: Any, count: int, concurrency: int) -> dict[str, Any]:
    """The rates with results kept, and with nothing kept."""
    return {kept: drain_rates(database, session, count, concurrency, task=task) for kept, task in NOOPS.items()}


def drain_rates(database: Any, session: Any, count: int, concurrency: int, *, task: str) -> dict[str, Any]:
    """Finished no-op messages per second by one real worker, from the appearance of all to the last one's end.

    By the database's own clock and rows; the worker is up, and has run a few messages, before the backlog appears.
    """
    from tests.processes import Manage

    empty(session)
    manage = Manage(database.url)
    try:
        worker = manage("run_worker", "--concurrency", str(concurrency), env=QUIET)
        worker.wait_for_line("started ")
        session.execute(FILL, [task, 50 * concurrency])
        session.execute("NOTIFY pg_queue, ' default'")
        wait_until(lambda: is_drained(session))
        settle(session)
        with session.transaction():
            session.execute(FILL, [task, count])
            session.execute("NOTIFY pg_queue, ' default'")
        began = session.execute("SELECT clock_timestamp()").fetchone()[0]
        wait_until(lambda: is_drained(session), every=0.02)
        ended = session.execute("SELECT clock_timestamp()").fetchone()[0]
        assert worker.stop() == 0
    finally:
        manage.clean_up()
    finished = one(session, "SELECT sum(finished)::int FROM pg_queue_worker WHERE stopped_at IS NOT NULL")
    assert finished == count + 50 * concurrency, finished
    kept = one(session, "SELECT count(*) FROM pg_queue_result WHERE state = 'succeeded' AND attempts = 1")
    assert kept == (0 if task == NOOPS["nothing"] else finished), kept
    return {"per_second": count / (ended - began).total_seconds(), "messages": count}


def is_drained(session: Any) -> bool:
    """No message is left. Looks for one, instead of counting them: the looking is part of what is measured."""
    return not session.execute("SELECT EXISTS (SELECT FROM pg_queue_message)").fetchone()[0]


def idle_latencies_ms(database: Any, session: Any, count: int) -> list[float]:
    """Milliseconds from `enqueued_at` to `finished_at` of a no-op on an idle worker, by the database's clock."""
    from pg_queue import api
    from tests.processes import Manage

    empty(session)
    manage = Manage(database.url)
    try:
        manage("run_worker", "--concurrency", "2", env=QUIET).wait_for_line("started ")
        for number in range(count + 10):
            api.enqueue("noop")
            wait_until(
                lambda done=number + 1: one(session, "SELECT count(*) FROM pg_queue_result") == done, every=0.005
            )
    finally:
        manage.clean_up()
    rows = session.execute(
        "SELECT extract(epoch FROM started_at - enqueued_at) * 1000 FROM pg_queue_result ORDER BY enqueued_at"
    )
    return [float(row[0]) for row in rows.fetchall()][10:]


def group_seconds(session: Any, members: int, batch: int = 300) -> dict[str, float]:
    """Seconds to make a group of so many, and to settle all of them: by one barrier, and without one."""
    from pg_queue import api

    plain = [api.NewMessage(task="noop") for _ in range(members)]
    empty(session)
    settle(session)
    made = timed(lambda: api.group(plain, callback=api.NewMessage(task="noop", queue="after")))
    grouped = timed(lambda: work_off(batch))
    assert one(session, "SELECT count(*) FROM pg_queue_message WHERE queue = 'after'") == 1
    empty(session)
    api.enqueue_many(plain)
    settle(session)
    return {"made": made, "settled": grouped, "settled_without": timed(lambda: work_off(batch))}


def work_off(batch: int) -> None:
    """Claim and settle until the queue is empty, as one worker does, without running anything."""
    from pg_queue.domain import Settlement, Success
    from pg_queue.storage import store

    lease = timedelta(seconds=600)
    while claims := store().claim(queues=["default"], limit=batch, lease=lease, worker="bench"):
        store().settle([Settlement(message_id=c.message.id, token=c.token, outcome=Success()) for c in claims])


def timed(work: Callable[[], Any]) -> float:
    """Seconds that it takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def one(session: Any, query: str) -> int:
    """The one number that the query gives."""
    return int(session.execute(query).fetchone()[0])


def wait_until(condition: Callable[[], bool], every: float = 0.02, timeout: float = 300) -> None:
    """Ask until it is true."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout} s"
        time.sleep(every)


def empty(session: Any) -> None:
    """Remove every message, result and worker."""
    session.execute(
        "TRUNCATE pg_queue_message, pg_queue_result, pg_queue_deadletter, pg_queue_barrier, pg_queue_worker CASCADE"
    )


def settle(session: Any) -> None:
    """Let no earlier work weigh on what is measured next, where the role may say so."""
    from benchmarks import databases

    databases.settle(session)


def print_table(figures: dict[str, Any]) -> None:
    """One line per figure, with its target."""
    from benchmarks.fire import print_rows, print_title

    print_title(figures)
    print_rows(table(figures))
    if "peers" in figures:
        from benchmarks.peers.run import show

        print()
        show(figures["peers"])


def table(figures: dict[str, Any]) -> list[Row]:
    """The figures as people read them."""
    rows: list[Row] = [("what", "measured (medians)", "target")]
    for name, describe in DESCRIPTIONS.items():
        if name in figures:
            rows += describe(figures[name])
    return rows


def describe_one(rates: dict[str, list[float]]) -> list[Row]:
    """Rates, and ours by the bare one's."""
    ours, bare, prepared = (statistics.median(rates[name]) for name in ("ours", "bare", "bare_prepared"))
    share = statistics.median(o / b for o, b in zip(rates["ours"], rates["bare"], strict=True))
    return [
        ("enqueue one, a transaction each", f"{ours:,.0f}/s, {share:.0%} of the bare INSERT", "80%"),
        ("  bare INSERT / prepared", f"{bare:,.0f}/s / {prepared:,.0f}/s", ""),
    ]


def describe_batch(rates: dict[str, list[float]]) -> list[Row]:
    """Rates."""
    ours, bare = statistics.median(rates["ours"]), statistics.median(rates["bare"])
    return [
        ("enqueue a batch, 1,000 a call", f"{ours:,.0f}/s, {ours / bare:.0%} of the bare INSERT", "60,000/s"),
        ("  bare INSERT of unnest", f"{bare:,.0f}/s", ""),
    ]


def describe_drain(rates: dict[Any, dict[str, dict[str, Any]]]) -> list[Row]:
    """Rates by what is kept and by the number of children."""
    return [
        (
            f"drain no-op messages, {label}, {n} child{'ren' if int(n) > 1 else ''}",
            f"{found[kept]['per_second']:,.0f}/s finished",
            target,
        )
        for kept, label, target in (("value", "results kept", "8,000/s"), ("nothing", "at least once", "15,000/s"))
        for n, found in rates.items()
    ]


def describe_idle(latencies: list[float]) -> list[Row]:
    """Percentiles."""
    from benchmarks.services import percentile

    text = " / ".join(f"{percentile(latencies, p):.1f}" for p in (50, 99))
    return [("idle: enqueued to claimed, p50 / p99", f"{text} ms", "p99 20 ms")]


def describe_group(seconds: dict[Any, dict[str, float]]) -> list[Row]:
    """Microseconds a member, by the number of members: the same, where the cost is linear."""
    return [
        (
            f"a group of {int(n):,}: made / worked off / worked off without a barrier",
            " / ".join(f"{found[part] / int(n) * 1e6:,.0f}" for part in ("made", "settled", "settled_without"))
            + " µs a member",
            "the same for any number",
        )
        for n, found in seconds.items()
    ]


DESCRIPTIONS: dict[str, Callable[[Any], list[Row]]] = {
    "one": describe_one,
    "batch": describe_batch,
    "drain": describe_drain,
    "idle": describe_idle,
    "group": describe_group,
}

if __name__ == "__main__":
    main()
