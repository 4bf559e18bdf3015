"""Loading a CSV file from disk into its table: streamed by COPY, in one transaction, all or nothing."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import psycopg
from django.conf import settings
from django.db import connection, transaction
from psycopg import sql

CHUNK_BYTES = 64 * 1024
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
    with path.open("rb") as source, transaction.atomic(), connection.cursor() as cursor:
        _check_header(path, source)
        cursor.execute(f"TRUNCATE {TABLE} RESTART IDENTITY")
        statement = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT csv, HEADER true)").format(
            sql.Identifier(TABLE), sql.SQL(", ").join(map(sql.Identifier, COLUMNS))
        )
        try:
            with cursor.copy(statement) as copy:
                for chunk in _chunks(source):
                    copy.write(chunk)
        except (psycopg.DataError, psycopg.IntegrityError) as error:
            raise _bad_row(path, error) from error
        return int(cursor.rowcount)


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
