"""A leader and its tables."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pg_queue.leader import Leadership
from scheduler.tick import Tick, make_tick
from tests.pg_queue.leader.conftest import patient_server  # noqa: F401  for these leaders too
from tests.processes import ProcessDatabase
from tests.scheduler.rows import Rows, lead, rows_of


@pytest.fixture
def rows(process_database: ProcessDatabase) -> Iterator[Rows]:
    """The database's tables, by SQL."""
    found = rows_of(process_database)
    try:
        yield found
    finally:
        found.close()


@pytest.fixture
def leadership(process_database: ProcessDatabase) -> Iterator[Leadership]:
    """A lead on the test's database."""
    with lead(process_database) as won:
        yield won


@pytest.fixture
def tick(leadership: Leadership) -> Tick:
    """A tick of that leader."""
    return make_tick(leadership)
