"""Loading a CSV file from disk into its table, in one transaction, all or nothing: by COPY where there is COPY."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import psycopg
from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import connection, transaction
from django.db.models import Model
from psycopg import sql

from backend.pipelines.models import TimeZoneChange

CHUNK_BYTES = 64 * 1024
ROWS_AT_ONCE = 500
TABLE = "pipelines_timezonechange"
COLUMNS = ["zone", "country", "changed_at", "offset_before_minutes", "offset_after_minutes", "abbreviation"]


class BadInputFile(Exception):
    """A file cannot be loaded: the message names it, what was expected, what was found, and the line where one is."""


def load(name: str) -> int:
    """Replace the table's rows by those of the file `name` in `PIPELINES_INPUT_DIR`; return how many.

    Readers and other loads wait until it is done; nobody sees half a file.

    Raises:
        BadInputFile: no such file, outside the folder, a wrong header, or a row that does not fit its columns.
    """
    path = locate(name)
    with path.open("rb") as source, transaction.atomic():
        _check_header(path, source)
        empty(TimeZoneChange)
        return _copy(path, source) if connection.vendor == "postgresql" else _insert(path, source)


def empty(model: type[Model]) -> None:
    """Delete all rows of a table that nothing refers to. Joins the caller's transaction."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute(f"TRUNCATE {model._meta.db_table} RESTART IDENTITY")
    else:
        model._default_manager.all().delete()


def locate(name: str) -> Path:
    """The file `name` inside the configured folder. Raises `BadInputFile` for any other, links followed."""
    folder = Path(settings.PIPELINES_INPUT_DIR).resolve()
    path = (folder / name).resolve()
    if not path.is_relative_to(folder):
        raise BadInputFile(f"path: expected a file inside the input folder, got: {name!r}")
    if not path.is_file():
        raise BadInputFile(
            f"path: expected a file in the input folder (PIPELINES_INPUT_DIR), found none named {name!r}"
        )
    return path


def _copy(path: Path, source: IO[bytes]) -> int:
    statement = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT csv, HEADER true)").format(
        sql.Identifier(TABLE), sql.SQL(", ").join(map(sql.Identifier, COLUMNS))
    )
    with connection.cursor() as cursor:
        try:
            with cursor.copy(statement) as copy:
                for chunk in _chunks(source):
                    copy.write(chunk)
        except (psycopg.DataError, psycopg.IntegrityError) as error:
            raise _bad_row(path, error) from error
        return int(cursor.rowcount)


def _insert(path: Path, source: IO[bytes]) -> int:
    lines = csv.reader(io.TextIOWrapper(source, encoding="utf-8-sig", newline=""))
    next(lines)
    rows = [_row(path, lines.line_num, values) for values in lines]
    TimeZoneChange.objects.bulk_create(rows, batch_size=ROWS_AT_ONCE)
    return len(rows)


def _row(path: Path, line: int, values: list[str]) -> TimeZoneChange:
    if len(values) != len(COLUMNS):
        what = "missing data" if len(values) < len(COLUMNS) else "extra data"
        raise BadInputFile(f"{path.name}, line {line}: {what}: expected {len(COLUMNS)} columns, got: {len(values)}")
    row = TimeZoneChange(**dict(zip(COLUMNS, values, strict=True)))
    try:
        row.clean_fields()
    except ValidationError as error:
        column, (reason, *_) = next(iter(error.message_dict.items()))
        got = values[COLUMNS.index(column)]
        raise BadInputFile(f"{path.name}, line {line}, column {column}: {got[:200]!r}: {reason}") from error
    return row


def _check_header(path: Path, source: IO[bytes]) -> None:
    line = source.readline().decode("utf-8-sig", errors="replace")
    found = next(csv.reader([line]), [])
    if found != COLUMNS:
        raise BadInputFile(f"{path.name}, line 1: expected the header {','.join(COLUMNS)}, got: {line.strip()[:200]!r}")
    source.seek(0)


def _chunks(source: IO[bytes]) -> Iterator[bytes]:
    while chunk := source.read(CHUNK_BYTES):
        yield chunk


def _bad_row(path: Path, error: psycopg.Error) -> BadInputFile:
    # PostgreSQL puts the line and the column into the context: "COPY table, line 7, column year: "x"".
    where = (error.diag.context or "").replace(f"COPY {TABLE}, ", "")
    return BadInputFile(f"{path.name}, {where}: {error.diag.message_primary}")
