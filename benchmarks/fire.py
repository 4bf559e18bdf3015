"""`python -m benchmarks.fire`: bursts, lags, idle cost and failover of the scheduler, beside Celery Beat's, in one run.

Prints one table and writes JSON. Figures of one run compare with each other only: machines differ, and are noisy.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "backend.settings")

Row = tuple[str, str, str]


def main() -> None:
    """Measure, print, write."""
    options = parse_arguments()
    from benchmarks.databases import scratch_database

    with scratch_database() as database:
        os.environ["DATABASE_URL"] = database.url
        django.setup()
        with database.connect() as session:
            figures = measure(database, session, options)
    figures["machine"] = {"platform": platform.platform(), "cores": os.cpu_count(), "python": platform.python_version()}
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(figures, indent=2) + "\n")
    print_table(figures)
    print(f"\nwritten to {options.output}")


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--million", action="store_true", help="also 1,000,000 schedules (minutes)")
    parser.add_argument("--beat-seconds", type=float, default=20, help="time cap for Beat at each size")
    parser.add_argument("--pairs", type=int, default=3, help="interleaved pairs of ours and the bare statement")
    parser.add_argument("--samples", type=int, default=250, help="of each lag; five a second")
    parser.add_argument("--idle-seconds", type=float, default=30)
    parser.add_argument("--output", type=Path, default=Path(".downbeat/bench-fire.json"))
    parser.add_argument(
        "--only", nargs="*", help="bursts, beat, bare, lag, enqueued, begun, change, idle, start, failover"
    )
    return parser.parse_args()


def measure(database: Any, session: Any, options: argparse.Namespace) -> dict[str, Any]:
    """Every section that was asked for, by name."""
    from benchmarks import bursts, failover, lags, services
    from benchmarks.databases import server_facts

    sizes = [1_000, 10_000]
    large = 1_000_000 if options.million else 100_000
    sections: dict[str, Callable[[], Any]] = {
        "bursts": lambda: {n: best(lambda n=n: bursts.tick_seconds(database, session, n)) for n in sizes},
        "beat": lambda: {n: beat(n, options.beat_seconds) for n in sizes},
        "bare": lambda: pairs(database, session, sorted({100_000, large}), options.pairs),
        "lag": lambda: lags.burst_lag_seconds(database, session, 10_000),
        "enqueued": lambda: lags.enqueued_lags_ms(database, session, options.samples),
        "begun": lambda: lags.started_lags_ms(database, session, options.samples),
        "change": lambda: lags.change_lags_ms(database, session, 100_000, options.samples),
        "idle": lambda: services.idle_figures(database, session, 100_000, options.idle_seconds),
        "start": lambda: services.start_to_first_fire_seconds(database, session, 100_000),
        "failover": lambda: {
            "killed": [failover.killed(database, session) for _ in range(5)],
            "frozen": [failover.frozen(database, session) for _ in range(3)],
            "partitioned": [failover.partitioned(database, session) for _ in range(3)],
        },
    }
    figures: dict[str, Any] = {"server": server_facts(session)}
    for name, section in sections.items():
        if not options.only or name in options.only:
            print(f"… {name}", file=sys.stderr, flush=True)
            figures[name] = section()
    return figures


def best(run: Callable[[], float], times: int = 3) -> float:
    """The middle one of so many runs."""
    return sorted(run() for _ in range(times))[times // 2]


def beat(count: int, seconds: float) -> dict[str, float]:
    """Beat's scheduler, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.beat", str(count), str(seconds)]
    finished = subprocess.run(command, capture_output=True, text=True, check=True, timeout=seconds + 300)
    found: dict[str, float] = json.loads(finished.stdout.splitlines()[-1])
    return found


def pairs(database: Any, session: Any, sizes: list[int], count: int) -> dict[int, dict[str, list[float]]]:
    """Seconds, interleaved: ours, bare on narrow tables, bare on our tables; and ours at 1,000 for the flatness."""
    from benchmarks import bursts

    found: dict[int, dict[str, list[float]]] = {}
    for size in sizes:
        made: dict[str, list[float]] = {"ours": [], "bare_narrow": [], "bare_own": [], "ours_at_1000": []}
        for _ in range(count):
            made["ours_at_1000"].append(bursts.tick_seconds(database, session, 1_000))
            made["ours"].append(bursts.tick_seconds(database, session, size))
            made["bare_narrow"].append(bursts.bare_narrow_seconds(session, size))
            made["bare_own"].append(bursts.bare_own_seconds(session, size))
        found[size] = made
    return found


def print_table(figures: dict[str, Any]) -> None:
    """One line per figure, with its target."""
    print_title(figures)
    print_rows(table(figures))


def print_title(figures: dict[str, Any]) -> None:
    """On what it was measured."""
    server, cores = dict(figures["server"]), figures["machine"]["cores"]
    version = server.pop("server_version")
    settings = ", ".join(f"{name} {value}" for name, value in server.items())
    print(f"\nPostgreSQL {version} ({settings}), {cores} cores\n")


def print_rows(rows: list[Row]) -> None:
    """In columns."""
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def table(figures: dict[str, Any]) -> list[Row]:
    """The figures as people read them."""
    rows: list[Row] = [("what", "measured", "target")]
    for name, describe in DESCRIPTIONS.items():
        if name in figures:
            rows += describe(figures)
    return rows


def describe_bursts(figures: dict[str, Any]) -> list[Row]:
    """Rates beside Beat's."""
    rows: list[Row] = []
    for size, seconds in figures["bursts"].items():
        rate, reference = size / seconds, figures.get("beat", {}).get(size)
        rows.append((f"fire {size:,} due together, ledger included", f"{rate:,.0f}/s in {seconds:.2f} s", ""))
        if reference:
            times = rate / reference["per_second"]
            note = "" if size < 10_000 else "1,000 times"
            rows.append((f"  Celery Beat's DatabaseScheduler, {size:,}", f"{reference['per_second']:,.0f}/s", ""))
            rows.append(("  ours by Beat's", f"{times:,.0f} times", note))
    return rows


def describe_bare(figures: dict[str, Any]) -> list[Row]:
    """Ours beside the bare statements, by the median of the pairs."""
    from benchmarks.services import median

    rows: list[Row] = []
    for size, made in figures["bare"].items():
        ours = made["ours"]
        flat = [a / size / (b / 1_000) for a, b in zip(ours, made["ours_at_1000"], strict=True)]
        rows.append((f"fire {size:,} due together, ledger included", f"{size / median(ours):,.0f}/s", ""))
        for name, label in (("bare_narrow", "narrow tables"), ("bare_own", "our tables")):
            share = median([bare / own for bare, own in zip(made[name], ours, strict=True)])
            rate = f"{size / median(made[name]):,.0f}/s"
            rows.append((f"  bare UPDATE … RETURNING → INSERT, {label}", f"{rate}; ours {share:.0%} of it", "50%"))
        rows.append((f"  cost per fire, {size:,} by 1,000", f"{median(flat):.2f}", "within 1.5"))
    return rows


def describe_services(figures: dict[str, Any]) -> list[Row]:
    """Lags, idle cost, start and failover."""
    from benchmarks.services import percentile

    rows: list[Row] = []
    if "lag" in figures:
        rows.append(("10,000 due: last one enqueued after", f"{figures['lag']:.2f} s", "1 s"))
    for name, label, target in (
        ("enqueued", "one due, idle system: enqueued after", "p99 10 ms"),
        ("begun", "one due, idle system: begun by a waiting worker after", "p99 20 ms"),
        ("change", "a change to one of 100,000: fired after", "50 ms"),
    ):
        if name in figures:
            lags = figures[name]
            text = f"p50 {percentile(lags, 50):.1f}, p99 {percentile(lags, 99):.1f} ms of {len(lags)}"
            rows.append((label, text, target))
    for role, idle in figures.get("idle", {}).items():
        text = f"{idle['cpu_percent']:.2f} % of a core, RSS {idle['rss_mb']:.0f} MB (own {idle['uss_mb']:.0f})"
        rows.append((f"idle {role}, 100,000 schedules", text, "0.5 %, 80 MB"))
    if "start" in figures:
        start = figures["start"]
        text = f"{start['once_up']:.2f} s after it is up ({start['from_start']:.2f} s from its start)"
        rows.append(("first fire, 100,000 schedules", text, "1 s"))
    return rows


def describe_failover(figures: dict[str, Any]) -> list[Row]:
    """How soon, by the median and the slowest, and what the ledger says of all trials together."""
    from benchmarks.services import median

    rows: list[Row] = []
    for how, target in (("killed", "1 s"), ("frozen", "15 s"), ("partitioned", "15 s")):
        trials = figures["failover"][how]
        seconds = [trial["seconds"] for trial in trials]
        lost, twice = (sum(trial[name] for trial in trials) for name in ("lost", "twice"))
        text = f"{median(seconds):.2f} s, slowest {max(seconds):.2f} s of {len(trials)}; lost {lost}, twice {twice}"
        rows.append((f"leader {how}: next fire after", text, f"{target}, 0, 0"))
    return rows


DESCRIPTIONS: dict[str, Callable[[dict[str, Any]], list[Row]]] = {
    "bursts": describe_bursts,
    "bare": describe_bare,
    "server": describe_services,
    "failover": describe_failover,
}


if __name__ == "__main__":
    main()
