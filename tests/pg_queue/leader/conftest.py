"""Candidates for the lead on a database of the test's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import psycopg
import pytest

from pg_queue.leader import PostgresElection, postgres
from tests.processes import ProcessDatabase

Candidate = Callable[..., PostgresElection]
PATIENT = dict.fromkeys(("idle_session_timeout", "idle_in_transaction_session_timeout", "statement_timeout"), "60s")


@pytest.fixture(autouse=True)
def patient_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that stalls for some seconds costs no leader of these tests its session."""
    monkeypatch.setattr(postgres, "SESSION_SETTINGS", postgres.SESSION_SETTINGS | PATIENT)
    monkeypatch.setattr(postgres, "BATCH_SECONDS", 60.0)


@pytest.fixture
def candidate(process_database: ProcessDatabase) -> Iterator[Candidate]:
    """Makes candidates; what they hold is given up with the test."""
    made: list[PostgresElection] = []

    def make(name: str = "test", **options: float) -> PostgresElection:
        candidate = PostgresElection(
            name=name, connect=lambda: psycopg.connect(process_database.url, autocommit=True), **options
        )
        made.append(candidate)
        return candidate

    yield make
    for candidate in made:
        candidate.close()
