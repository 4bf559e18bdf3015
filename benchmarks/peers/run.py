"""All systems, in turns, so that a busy moment of the machine weighs on all alike."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psycopg
from psycopg import sql

from benchmarks.peers.environments import versions
from benchmarks.peers.measuring import Sizes, measure, median_of
from benchmarks.peers.systems import SYSTEMS, System
from benchmarks.services import percentile

Report = Callable[[str], None]


def compare(url: str, *, rounds: int, sizes: Sizes, only: Sequence[str] = (), say: Report) -> dict[str, Any]:
    """Figures by system, on databases of this server. One that cannot be installed or run is named with its error."""
    chosen = [one for one in SYSTEMS if not only or any(word.lower() in one.name.lower() for word in only)]
    figures: dict[str, list[dict[str, Any]]] = {one.name: [] for one in chosen}
    errors: dict[str, str] = {}
    for number in range(rounds):
        for system in (one for one in chosen if one.name not in errors):
            say(f"round {number + 1} of {rounds}: {system.name}")
            try:
                with _place(system, url) as place:
                    figures[system.name].append(measure(system, place, sizes))
            except (RuntimeError, OSError, subprocess.SubprocessError) as error:
                errors[system.name] = f"{type(error).__name__}: {error}"
    measured = {name: median_of(found) for name, found in figures.items() if found}
    installed = sorted({versions(one) for one in chosen if one.name in measured} - {""})
    return {"systems": measured, "errors": errors, "versions": installed, "rounds": rounds}


@contextmanager
def _place(system: System, url: str) -> Iterator[Mapping[str, str]]:
    """What the driver is told of where to keep its messages; empty, and gone afterwards."""
    if system.is_ours:
        from tests.processes import copied_database, template_database

        with (
            template_database(url) as template,
            copied_database(url, template, "peer") as database,
            _redis(system) as redis,
        ):
            yield {"BENCH_DATABASE_URL": database.url} | redis
    else:
        with _empty_database(url, "bench_peer") as found:
            yield {"BENCH_DATABASE_URL": found}


@contextmanager
def _redis(system: System) -> Iterator[Mapping[str, str]]:
    """A server of its own, for what is to be kept in Redis."""
    if not system.needs_redis:
        yield {}
        return
    from tests.places import own_redis

    as_delivered = ("--appendonly", "no")
    with TemporaryDirectory() as folder, own_redis(Path(folder), options=as_delivered) as url:
        yield {name: url for name, value in system.environment.items() if value == "redis"}


@contextmanager
def _empty_database(url: str, name: str) -> Iterator[str]:
    from tests.processes import database_url

    with psycopg.connect(url, autocommit=True) as session:
        drop = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name))
        session.execute(drop)
        session.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        try:
            yield database_url(url, name)
        finally:
            session.execute(drop)


def lines(figures: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """The table: a line a system."""
    rows = [("one worker process", "enqueue one", "batch", "finished", "idle p50 / p99")]
    for name, one in figures["systems"].items():
        rates = (_rate(one[key]) for key in ("one_per_second", "batch_per_second", "drain_per_second"))
        rows.append((name, *rates, _latency(one["idle_ms"])))
    rows += [(name, f"not measured: {error}") for name, error in figures["errors"].items()]
    return rows


def show(figures: Mapping[str, Any]) -> None:
    """Print the table, and what was installed."""
    rows = lines(figures)
    widths = [max(len(row[at]) for row in rows if len(row) == len(rows[0])) for at in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=False)).rstrip())
    print(f"\nmedians of {figures['rounds']} rounds; {', '.join(figures['versions'])}")


def tell(text: str) -> None:
    """Progress, on stderr."""
    print(f"… {text}", file=sys.stderr, flush=True)


def _rate(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}/s"


def _latency(values: list[float]) -> str:
    return f"{percentile(values, 50):.1f} / {percentile(values, 99):.1f} ms" if values else "-"
