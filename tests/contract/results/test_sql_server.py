"""The statements for SQL Server, as its Django backend hands them to the driver.

The rest of the contract runs there when `TEST_MSSQL_URL` names an empty database.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connections
from django.db.migrations.loader import MigrationLoader

from pg_queue.domain import MessageState
from pg_queue.results.database import CHUNK_ROWS, DatabaseResults, put_rows
from pg_queue.results.domain import Outcome
from pg_queue.results.rows import Row, encode_outcomes
from pg_queue.settings import parse
from pg_queue.sql import named_statements
from tests.places import ALIAS, MSSQL_URL, TABLE, Place, connected

BEGUN = datetime(2030, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
PLACE = Place(
    name="mssql",
    results={"BACKEND": "database", "DATABASE": ALIAS},
    databases={ALIAS: {"ENGINE": "mssql", "NAME": "results", "HOST": "nowhere", "PORT": "1433"}},
)


class Driver:
    """Stands in for pyodbc's cursor: notes what it is given, and has no rows."""

    def __init__(self, rows: list[Any] | None = None) -> None:
        self.executed: list[tuple[str, list[Any]]] = []
        self.rowcount, self.description = 0, None
        self._rows = rows or []

    def execute(self, statement: str, parameters: Any = None) -> Driver:
        self.executed.append((statement, list(parameters or ())))
        return self

    def fetchone(self) -> Any:
        return self._rows.pop(0) if self._rows else None

    def fetchmany(self, size: int) -> list[Any]:
        return []

    def fetchall(self) -> list[Any]:
        return []

    def nextset(self) -> bool:
        return False

    def close(self) -> None:
        return


class Session:
    """Stands in for pyodbc's connection."""

    def __init__(self, driver: Driver) -> None:
        self._driver, self.autocommit = driver, True

    def cursor(self) -> Driver:
        return self._driver

    def commit(self) -> None:
        return

    def rollback(self) -> None:
        return

    def close(self) -> None:
        return


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch, django_db_blocker: Any) -> Iterator[Driver]:
    """What the backend of SQL Server is connected to."""
    noted = Driver()
    with django_db_blocker.unblock(), connected(PLACE):
        connection = connections[ALIAS]
        monkeypatch.setattr(connection, "get_new_connection", lambda parameters: Session(noted))
        monkeypatch.setattr(connection, "init_connection_state", lambda: None)
        monkeypatch.setattr(connection, "_set_autocommit", lambda autocommit: None)
        monkeypatch.setattr(type(connection), "sql_server_version", 2022)
        monkeypatch.setattr(type(connection), "to_azure_sql_db", False)
        yield noted


pytestmark = pytest.mark.services("odbc")


def store() -> DatabaseResults:
    return DatabaseResults(parse({"RESULTS": PLACE.results}))


def rows(count: int, **fields: Any) -> list[Row]:
    outcomes = [
        Outcome(
            message_id=uuid.UUID(int=number),
            state=MessageState.SUCCEEDED,
            attempts=2,
            started_at=BEGUN,
            **{"value": {"ä": number}, **fields},
        )
        for number in range(count)
    ]
    return encode_outcomes(outcomes, ttl_seconds=0, max_bytes=1000)


def squeezed(statement: str) -> str:
    return re.sub(r"\s+", " ", statement).strip()


def test_the_upsert_is_one_merge_that_holds_its_range_and_lets_only_a_later_execution_through(driver: Driver) -> None:
    store().put([Outcome(message_id=uuid.UUID(int=7), state=MessageState.FAILED, attempts=1, started_at=BEGUN)])
    ((statement, _),) = driver.executed
    text = squeezed(statement)
    assert text.startswith(
        f"MERGE INTO {TABLE} WITH (HOLDLOCK) AS kept USING (VALUES (CAST(? AS char(32)), ?, ?, CAST("
    )
    assert "ON kept.message_id = given.message_id" in text
    assert "WHEN MATCHED AND given.started_at > kept.started_at THEN UPDATE SET" in text
    assert "WHEN NOT MATCHED BY TARGET THEN INSERT" in text
    assert text.endswith(";")  # MERGE needs it
    assert text.count("given.ttl % 86400000") == 2
    assert "%s" not in text
    assert "%%" not in text


def test_its_parameters_are_what_the_columns_take(driver: Driver) -> None:
    named, connection = named_statements("pg_queue.results", "sql/microsoft.sql"), connections[ALIAS]
    with connection.cursor() as cursor:
        put_rows(cursor, connection, named, [*rows(1), *rows(1, ttl=timedelta(days=400), value=None)])
    ((statement, parameters),) = driver.executed
    assert statement.count("?") == len(parameters) == 16
    first, second = parameters[:8], parameters[8:]
    assert first[:6] == ["0" * 32, "", "succeeded", '{"\\u00e4":0}', None, 2]
    assert first[7] is None
    assert second[3:6] == [None, None, 2]
    assert second[7] == 400 * 86_400_000
    assert str(first[6]).startswith("2030-01-02 03:04:05.678901")


def test_a_full_statement_has_no_more_parameters_than_sql_server_takes(driver: Driver) -> None:
    made = store()
    made.put(
        [
            Outcome(message_id=uuid.UUID(int=number), state=MessageState.SUCCEEDED, attempts=1, started_at=BEGUN)
            for number in range(CHUNK_ROWS + 1)
        ]
    )
    assert [len(parameters) for _, parameters in driver.executed] == [CHUNK_ROWS * 8, 8]
    assert CHUNK_ROWS * 8 <= 2100
    assert CHUNK_ROWS <= 1000  # rows of one VALUES


def test_what_is_read_and_deleted_compares_with_the_servers_own_clock(driver: Driver) -> None:
    made = store()
    assert made.get([uuid.UUID(int=5)]) == {}
    assert made.expire(limit=10) == 0
    assert made.clear(completed_before=BEGUN, limit=10) == 0
    read, expired, cleared = (squeezed(statement) for statement, _ in driver.executed)
    assert f"FROM [{TABLE}] WHERE" in read
    assert f"[{TABLE}].[expires_at] > (SYSDATETIMEOFFSET())" in read or "expires_at] > SYSDATETIMEOFFSET()" in read
    assert "expires_at] <= (SYSDATETIMEOFFSET())" in expired or "expires_at] <= SYSDATETIMEOFFSET()" in expired
    assert f"ORDER BY [{TABLE}].[expires_at] ASC" in expired
    assert f"ORDER BY [{TABLE}].[finished_at] ASC" in cleared
    assert "10" in cleared  # the limit, in SQL Server's own words
    assert driver.executed[0][1][-1] == uuid.UUID(int=5).hex


def test_the_migration_makes_the_table_its_indexes_and_its_constraint(driver: Driver) -> None:
    connection = connections[ALIAS]
    loader = MigrationLoader(None)
    state = loader.project_state(("pg_queue_results", "0001_initial")).apps
    with connection.schema_editor(collect_sql=True, atomic=False) as editor:
        editor.create_model(state.get_model("pg_queue_results", "StoredResult"))
        editor.deferred_sql, deferred = [], list(editor.deferred_sql)
        text = squeezed(" ".join([*editor.collected_sql, *(str(statement) for statement in deferred)]))
    assert f"CREATE TABLE [{TABLE}] ([message_id] char(32) NOT NULL PRIMARY KEY" in text
    assert "[value] nvarchar(max) NULL" in text
    assert "[started_at] datetimeoffset NOT NULL" in text
    assert "CONSTRAINT [pg_queue_results_state_terminal] CHECK" in text
    assert "CREATE INDEX [pg_queue_results_expiring]" in text
    assert "CREATE INDEX [pg_queue_results_finished]" in text


def test_a_deadlock_is_tried_again(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    import pyodbc

    executed, failures = driver.execute, [pyodbc.Error("40001", "[40001] deadlocked (1205)")] * 2

    def execute(statement: str, parameters: Any = None) -> Driver:
        executed(statement, parameters)
        if failures:
            raise failures.pop()
        return driver

    monkeypatch.setattr(driver, "execute", execute)
    store().put([Outcome(message_id=uuid.UUID(int=1), state=MessageState.SUCCEEDED, attempts=1, started_at=BEGUN)])
    assert len(driver.executed) == 3


def test_the_whole_contract_runs_on_a_live_server() -> None:
    if not MSSQL_URL:
        pytest.skip("absent: SQL Server (TEST_MSSQL_URL)")
