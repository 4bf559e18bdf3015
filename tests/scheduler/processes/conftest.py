"""Real scheduler processes on a database of the test's own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.processes import ProcessDatabase
from tests.scheduler.rows import Rows


@pytest.fixture
def rows(process_database: ProcessDatabase) -> Iterator[Rows]:
    """The database's tables, by SQL."""
    found = Rows(process_database)
    try:
        yield found
    finally:
        found.close()
