"""Failures of the mirror's table, and counts of them; what Beat sends, on a database of its own."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from types import FrameType

import pytest

from scheduler.beat import pairs
from tests.processes import ProcessDatabase
from tests.scheduler.rows import Rows
from tests.scheduler.schedules.conftest import hands  # noqa: F401  the same clock for these tests


@pytest.fixture
def rows(process_database: ProcessDatabase) -> Iterator[Rows]:
    """The tables of a database of the test's own, by SQL."""
    found = Rows(process_database)
    try:
        yield found
    finally:
        found.close()


@pytest.fixture
def handled() -> Iterator[list[int]]:
    """Stops that took effect: as with Celery, by an exception."""
    numbers: list[int] = []

    def stop(number: int, frame: FrameType | None) -> None:
        numbers.append(number)
        raise SystemExit

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    yield numbers
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def no_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    """A row of Beat's that is missed counts as gone the second time, however soon."""
    monkeypatch.setattr(pairs, "ORPHAN_GRACE_SECONDS", 0)
