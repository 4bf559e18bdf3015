"""SQLite's rows as the other stores' are: ids as `uuid.UUID`, instants aware. Then they are decoded in one place."""

from __future__ import annotations

import uuid
from typing import Any

from pg_queue.domain import NewMessage
from pg_queue.sqlite import as_instant, as_text, next_number
from pg_queue.storage.parcels import pack_continuations
from pg_queue.storage.rows import Row, encode_message
from pg_queue.storage.sqlite.session import as_instant_or_none, dump_json, load_id_or_none


def dump_message(
    message: NewMessage, *, now: str, namespace: str, max_attempts: int, barrier_id: uuid.UUID | None
) -> dict[str, Any]:
    """The parameters of the statement `store`; numbered in the order of the calls."""
    row = encode_message(message, namespace, max_attempts)
    continuations = pack_continuations(message)
    return row | {
        "id": row["id"].hex,
        "sequence": next_number(),
        "now": now,
        "run_after": now if message.run_after is None else as_text(message.run_after),
        "key": message.key,
        "barrier_id": barrier_id and barrier_id.hex,
        "continuations": continuations and dump_json(continuations),
    }


def message_row(row: Row) -> Row:
    """The columns of a message, in the order that `pg_queue.storage.rows` reads. Raises: ValueError."""
    instants = (
        as_instant(row[9]),
        as_instant(row[10]),
        as_instant_or_none(row[11]),
        as_instant_or_none(row[12]),
    )
    return (uuid.UUID(row[0]), *row[1:9], *instants, *row[13:20], load_id_or_none(row[20]))


def claim_row(row: Row) -> Row:
    """The same with a claim's token and lease at its end. Raises: ValueError."""
    return (*message_row(row[:-2]), uuid.UUID(row[-2]), as_instant(row[-1]))
