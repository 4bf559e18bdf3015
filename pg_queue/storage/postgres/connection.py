"""Statements on Django's session of one database, past Django's cursor.

On a psycopg cursor results travel in binary and come back as Python values whatever adapters the project set up, and
the statement still belongs to the transaction that the caller has open there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import psycopg
from django.db import connections, transaction

from pg_queue.storage.rows import Row


class StoreConnection:
    """The calling thread's session of the Django alias. Its errors are Django's database errors."""

    def __init__(self, alias: str) -> None:
        self.alias = alias

    def fetch(self, statement: str, parameters: Mapping[str, Any]) -> list[Row]:
        """The rows that the statement returns. Joins the caller's transaction, else commits."""
        with self._cursor() as cursor:
            return cursor.execute(statement, parameters, binary=True).fetchall()

    def count(self, statement: str, parameters: Mapping[str, Any]) -> int:
        """How many rows the statement touched. Joins the caller's transaction, else commits."""
        with self._cursor() as cursor:
            return cursor.execute(statement, parameters).rowcount

    def atomic(self, *, savepoint: bool = True) -> AbstractContextManager[None]:
        """A transaction; inside of one a savepoint, or with `savepoint` False nothing of its own."""
        return transaction.atomic(using=self.alias, savepoint=savepoint)

    @contextmanager
    def _cursor(self) -> Iterator[psycopg.Cursor[Row]]:
        connection = connections[self.alias]
        connection.ensure_connection()
        connection.validate_no_broken_transaction()
        with connection.wrap_database_errors, psycopg.Cursor(connection.connection) as cursor:
            yield cursor
