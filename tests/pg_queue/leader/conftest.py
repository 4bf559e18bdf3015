"""Candidates for the lead on a database of the test's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import psycopg
import pytest

from pg_queue.leader import Election
from tests.processes import ProcessDatabase

Candidate = Callable[..., Election]


@pytest.fixture
def candidate(process_database: ProcessDatabase) -> Iterator[Candidate]:
    """Makes candidates; what they hold is given up with the test."""
    made: list[Election] = []

    def make(name: str = "test", **options: float) -> Election:
        election = Election(
            name=name, connect=lambda: psycopg.connect(process_database.url, autocommit=True), **options
        )
        made.append(election)
        return election

    yield make
    for election in made:
        election.close()
