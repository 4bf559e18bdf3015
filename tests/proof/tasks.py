"""The task of every schedule: it writes down which message it was, by whichever worker it runs."""

from __future__ import annotations

from typing import Any

from celery import shared_task
from django.db import connection

from pg_queue.api import current_message

NAME = "proof.note"
CREATE_TABLE = """
    CREATE TABLE proof_execution (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        firer text NOT NULL,
        message_id text NOT NULL,
        beat_name text NOT NULL,
        published_at timestamptz,
        executed_at timestamptz NOT NULL DEFAULT clock_timestamp()
    )
"""
_INSERT = "INSERT INTO proof_execution (firer, message_id, beat_name, published_at) VALUES (%s, %s, %s, %s)"


@shared_task(bind=True, name=NAME)
def note(self: Any, *args: object) -> None:
    """Add a row: by PG's worker its message's id, which is the run's; by Celery's the id that Beat gave it."""
    message = current_message()
    if message is not None:
        written = "pg", str(message.id), str(message.headers["schedule_id"]), None
    else:
        request = self.request
        written = "beat", request.id, request.periodic_task_name, request.published_at
    with connection.cursor() as cursor:
        cursor.execute(_INSERT, written)
