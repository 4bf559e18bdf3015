"""Results in any database that Django knows: PostgreSQL, MariaDB, MySQL, SQLite, SQL Server.

What is written is in `sql/<vendor>.sql`: "insert, or update where newer, else nothing" is another statement everywhere,
and nothing less is safe between processes. What is read and deleted goes through the ORM.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any, TypeVar
from uuid import UUID

from django.apps import apps
from django.core.exceptions import ImproperlyConfigured
from django.db import DataError, Error, IntegrityError, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.utils import CursorWrapper
from django.db.models import F, Q, QuerySet
from django.db.models.functions import Now
from django.utils.connection import ConnectionDoesNotExist

from pg_queue.errors import Configuration, ResultRefused, ResultsUnavailable
from pg_queue.results.domain import Outcome, Result
from pg_queue.results.rows import Row, chunks, chunks_by_size, decode_result, encode_outcomes, readable
from pg_queue.settings import QueueSettings
from pg_queue.sql import named_statements

T = TypeVar("T")

CHUNK_ROWS = 250
"""Most rows in one statement: SQL Server takes 2,100 parameters, and an upsert has eight for each row."""
CHUNK_BYTES = 4 << 20
"""Most JSON in one statement: MariaDB's `max_allowed_packet` is 16 MB, and 1 MB more than the largest value helps."""
CONFLICTS = 10
"""How often a statement is tried that the server ended in favour of another one."""
VENDORS = ("postgresql", "mysql", "sqlite", "microsoft")


class StoreNow(Now):
    """The present as the upserts write it. Django's own is in the session's timezone on MariaDB and MySQL."""

    def as_mysql(self, compiler: Any, connection: Any, **context: Any) -> Any:
        """UTC, like every instant that Django writes."""
        return self.as_sql(compiler, connection, template="UTC_TIMESTAMP(6)", **context)


class DatabaseResults:
    """Implements `pg_queue.results.ports.ResultStore` on the alias `PG_QUEUE["RESULTS"]["DATABASE"]`.

    A statement that fails because its session was lost is tried once more on a new one, and one that lost against
    another session (a deadlock) some times: each does no more when it is done twice.
    """

    def __init__(self, conf: QueueSettings) -> None:
        """Raises: Configuration when the alias, its driver or the app `pg_queue.results` is missing."""
        assert conf.results is not None
        self.alias = checked_alias(conf.results.database or "")
        self._conf = conf
        from pg_queue.results.models import StoredResult

        self._model = StoredResult
        self._statements = named_statements("pg_queue.results", f"sql/{connections[self.alias].vendor}.sql")

    def put(self, outcomes: Sequence[Outcome]) -> None:
        """See the port. Each chunk of rows is a statement, and a transaction, of its own."""
        rows = encode_outcomes(
            outcomes, ttl_seconds=self._conf.results_ttl_seconds, max_bytes=self._conf.max_result_bytes
        )
        for chunk in chunks_by_size(rows, count=CHUNK_ROWS, size=CHUNK_BYTES):
            self._ask(lambda chunk=chunk: self._put(chunk))  # type: ignore[misc]

    def get(self, message_ids: Iterable[UUID]) -> Mapping[UUID, Result]:
        """See the port."""
        found: dict[UUID, Result] = {}
        for chunk in chunks(message_ids, CHUNK_ROWS):
            live = Q(expires_at__isnull=True) | Q(expires_at__gt=StoreNow())
            rows = self._ask(lambda: list(self._rows().filter(live, pk__in=chunk)))  # noqa: B023 - called at once
            found |= readable((row.message_id, partial(_decode, row)) for row in rows)
        return found

    def forget(self, message_ids: Iterable[UUID]) -> int:
        """See the port."""
        return sum(
            self._ask(lambda chunk=chunk: self._rows().filter(pk__in=chunk).delete()[0])  # type: ignore[misc]
            for chunk in chunks(message_ids, CHUNK_ROWS)
        )

    def clear(self, *, completed_before: datetime, limit: int) -> int:
        """See the port."""
        return self._delete(Q(finished_at__lt=completed_before), "finished_at", limit)

    def expire(self, *, limit: int) -> int:
        """See the port."""
        return self._delete(Q(expires_at__lte=StoreNow()), "expires_at", limit)

    def count(self) -> int:
        """See the port."""
        live = Q(expires_at__isnull=True) | Q(expires_at__gt=StoreNow())
        return self._ask(lambda: self._rows().filter(live).count())

    def now(self) -> datetime:
        """See the port."""
        return self._ask(self._now)

    def _rows(self) -> QuerySet[Any]:
        return self._model.objects.using(self.alias)

    def _put(self, rows: Sequence[Row]) -> None:
        with connections[self.alias].cursor() as cursor:
            put_rows(cursor, connections[self.alias], self._statements, rows)

    def _delete(self, condition: Q, order: str, limit: int) -> int:
        """At most `limit`, in chunks; the condition is asked again where a row is deleted: it may be another now."""
        deleted = 0
        while deleted < limit:
            most = min(CHUNK_ROWS, limit - deleted)
            found = self._rows().filter(condition).order_by(F(order).asc()).values_list("pk", flat=True)[:most]
            ids = self._ask(lambda: list(found))  # noqa: B023 - called at once
            deleted += self._ask(lambda: self._rows().filter(condition, pk__in=ids).delete()[0])  # noqa: B023
            if len(ids) < most:
                break
        return deleted

    def _now(self) -> datetime:
        with connections[self.alias].cursor() as cursor:
            cursor.execute(self._statements["now"])
            (now,) = cursor.fetchone()
        instant = datetime.fromisoformat(now) if isinstance(now, str) else now
        return instant.replace(tzinfo=instant.tzinfo or UTC).astimezone(UTC)

    def _ask(self, action: Callable[[], T]) -> T:
        """Raises: ResultsUnavailable; ResultRefused for what the server will not hold."""
        left, may_reconnect = CONFLICTS, connections[self.alias].connection is not None
        while True:
            connection = connections[self.alias]
            try:
                return action()
            except (DataError, IntegrityError) as error:
                raise ResultRefused(f"results in database {self.alias!r}: {str(error).strip()}") from error
            except Error as error:  # pyodbc knows errors that are of no kind: a deadlock, for one
                if connection.in_atomic_block:
                    raise self._unavailable(error) from error
                left -= 1
                if left and is_conflict(error):
                    continue
                connection.close()
                if not may_reconnect:
                    raise self._unavailable(error) from error
                may_reconnect = False

    def _unavailable(self, error: Exception) -> ResultsUnavailable:
        return ResultsUnavailable(f"results in database {self.alias!r}: {str(error).strip() or type(error).__name__}")


def _decode(row: Any) -> Result:
    return decode_result(
        message_id=row.message_id,
        namespace=row.namespace,
        state=row.state,
        value=row.value,
        error=row.error,
        attempts=row.attempts,
        finished_at=row.finished_at,
    )


def put_rows(
    cursor: CursorWrapper, connection: BaseDatabaseWrapper, named: Mapping[str, str], rows: Sequence[Row]
) -> None:
    """Execute the upsert of these rows, at most `CHUNK_ROWS`, each message once, on a session of this vendor."""
    statement = named["put"].replace("{rows}", ",\n".join([named["put_row"]] * len(rows)))
    cursor.execute(statement, [parameter for row in rows for parameter in _parameters(row, connection)])


def checked_alias(alias: str) -> str:
    """`alias`, when results can be kept there. Raises: Configuration, with what is missing and what to install."""
    where = "PG_QUEUE['RESULTS']['DATABASE']"
    if not apps.is_installed("pg_queue.results"):
        raise Configuration(f"{where}: expected 'pg_queue.results' in INSTALLED_APPS, which has the table")
    try:
        connection = connections[alias]
    except ConnectionDoesNotExist:
        known = ", ".join(sorted(connections.settings))
        raise Configuration(f"{where}: expected an alias of DATABASES ({known}), got: {alias!r}") from None
    except ImproperlyConfigured as error:
        raise Configuration(f"{where}: {alias!r} needs a driver: {error}. {DRIVERS}") from error
    if connection.vendor not in VENDORS:
        raise Configuration(f"{where}: expected a database among {', '.join(VENDORS)}, got: {connection.vendor}")
    if connection.vendor in {"mysql", "sqlite"} and connection.timezone_name != "UTC":
        # They keep instants without a timezone, and the upserts write theirs in UTC.
        raise Configuration(f"{where}: expected DATABASES[{alias!r}] without TIME_ZONE, and USE_TZ = True")
    return alias


DRIVERS = (
    "For MariaDB and MySQL install mysqlclient; for SQL Server `pip install 'django-downbeat[mssql]'` and the system's "
    "unixODBC."
)


def is_conflict(error: Error) -> bool:
    """True where the server ended this statement in favour of another session's: it may be done again at once.

    PostgreSQL and ODBC: SQLSTATE 40001, 40P01. MariaDB and MySQL: errors 1213 (deadlock), 1020 (the row has changed
    since it was read). What has waited for a lock until a timeout (SQLite always does) was patient already.
    """
    code = getattr(error.__cause__, "sqlstate", None) or next(iter(error.args), None)
    return code in {"40001", "40P01", 1213, 1020}


def _parameters(row: Row, connection: BaseDatabaseWrapper) -> list[Any]:
    named = {
        "message_id": row.message_id,
        "namespace": row.namespace,
        "state": row.state,
        "value": row.value,
        "error": row.error,
        "attempts": row.attempts,
        "started_at": row.started_at,
    }
    fields = {field.name: field for field in apps.get_model("pg_queue_results", "StoredResult")._meta.fields}
    adapted = [fields[name].get_db_prep_value(value, connection) for name, value in named.items()]
    return [*adapted, row.ttl_milliseconds]
