"""A leader and its tables."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pg_queue.leader import PostgresLeadership
from scheduler.tick import Tick
from tests.pg_queue.leader.conftest import patient_server  # noqa: F401  for these leaders too
from tests.processes import ProcessDatabase
from tests.scheduler.rows import Rows, lead


@pytest.fixture
def rows(process_database: ProcessDatabase) -> Iterator[Rows]:
    """The database's tables, by SQL."""
    found = Rows(process_database)
    try:
        yield found
    finally:
        found.close()


@pytest.fixture
def leadership(process_database: ProcessDatabase) -> Iterator[PostgresLeadership]:
    """A lead on the test's database."""
    with lead(process_database) as won:
        yield won


@pytest.fixture
def tick(leadership: PostgresLeadership) -> Tick:
    """A tick of that leader."""
    return Tick(leadership)
