"""Tells a driver what to do, starts and stops its worker, and takes the time."""

from __future__ import annotations

import json
import os
import random
import signal
import statistics
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.peers.environments import python_of
from benchmarks.peers.systems import System

ROOT = Path(__file__).parents[2]
DRIVERS = Path(__file__).parent / "drivers"
BEGUN_SHARE = 0.95
"""The clock of a drain runs from the moment that so much is left: a worker's start is not what is measured."""
WARM_UP = 20
GIVE_UP_SECONDS = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """How much of each is done."""

    one: int = 500
    batch: int = 5000
    drain: int = 10_000
    idle: int = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a system keeps its messages, as its driver is told."""

    environment: Mapping[str, str]


class Driver:
    """A driver's process: one order, one answer."""

    def __init__(self, command: list[str], environment: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=DRIVERS
        )

    def ask(self, *order: object) -> Any:
        """Its answer. Raises: RuntimeError when it has ended, its own words being on stderr."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(" ".join(map(str, order)) + "\n")
        self._process.stdin.flush()
        while line := self._process.stdout.readline():
            with suppress(ValueError):  # a library that prints
                return json.loads(line)
        raise RuntimeError(f"{self._process.args}: it ended at {order}")

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.communicate()


def measure(system: System, place: Mapping[str, str], sizes: Sizes) -> dict[str, Any]:
    """Rates per second, and latencies in milliseconds, by the words of `benchmarks.peers`."""
    command = [str(python_of(system)), str(DRIVERS / f"{system.driver}.py")]
    with TemporaryDirectory() as folder:
        notes = Path(folder, "notes")
        environment = {**os.environ, **system.environment, **place, "BENCH_ROOT": str(ROOT), "BENCH_NOTES": str(notes)}
        driver = Driver(command, environment)
        try:
            driver.ask("set_up")
            figures = _enqueue(driver, sizes)
            return figures | _work_off(driver, [*command, "worker"], environment, notes, system, sizes)
        finally:
            driver.close()


def _enqueue(driver: Driver, sizes: Sizes) -> dict[str, float]:
    driver.ask("one", WARM_UP)
    one = sizes.one / driver.ask("one", sizes.one)
    driver.ask("clear")
    batch = sizes.batch / driver.ask("batch", sizes.batch)
    driver.ask("clear")
    return {"one_per_second": one, "batch_per_second": batch}


def _work_off(
    driver: Driver, command: list[str], environment: Mapping[str, str], notes: Path, system: System, sizes: Sizes
) -> dict[str, Any]:
    driver.ask("batch", sizes.drain)
    with _running(command, environment):
        drained = _drain(driver, sizes.drain)
        if drained is None:
            return {"drain_per_second": None, "idle_ms": []}
        driver.ask("clear")  # what was not done in time
        time.sleep(2)
        return {"drain_per_second": drained, "idle_ms": _latencies(driver, notes, system, sizes.idle)}


def _drain(driver: Driver, count: int) -> float | None:
    """Finished per second, from when a part is done to the end; None: it was not done in time."""
    give_up_at = time.monotonic() + GIVE_UP_SECONDS
    began: tuple[float, int] | None = None
    while time.monotonic() < give_up_at:
        pending, now = driver.ask("pending"), time.monotonic()
        if began is None and pending <= count * BEGUN_SHARE:
            began = now, pending
        if not pending:
            assert began is not None
            return began[1] / (now - began[0]) if now > began[0] else None
        time.sleep(0.01)
    if began is None:
        return None
    return (began[1] - driver.ask("pending")) / (time.monotonic() - began[0])


def _latencies(driver: Driver, notes: Path, system: System, count: int) -> list[float]:
    for _ in range(count):
        driver.ask("send")
        time.sleep(system.idle_gap_seconds * random.uniform(1, 2))
    give_up_at = time.monotonic() + 10
    while _count(notes) < count and time.monotonic() < give_up_at:
        time.sleep(0.05)
    pairs = [line.split() for line in notes.read_text().splitlines()] if notes.exists() else []
    return [(float(begun) - float(sent)) * 1000 for sent, begun in pairs]


def _count(notes: Path) -> int:
    return notes.read_bytes().count(b"\n") if notes.exists() else 0


@contextmanager
def _running(command: list[str], environment: Mapping[str, str]) -> Iterator[None]:
    process = subprocess.Popen(
        command, env=environment, cwd=DRIVERS, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        stdin=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    try:
        yield
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(8)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def median_of(rounds: list[dict[str, Any]]) -> dict[str, Any]:
    """The rounds of one system as one."""
    names = ("one_per_second", "batch_per_second", "drain_per_second")
    found = {name: [one[name] for one in rounds if one[name] is not None] for name in names}
    medians = {name: statistics.median(values) if values else None for name, values in found.items()}
    return medians | {"idle_ms": [value for one in rounds for value in one["idle_ms"]]}
