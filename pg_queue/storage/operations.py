"""What an operator does by hand, in a Django database. Not on the hot path, so by the ORM."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Protocol

from django.db import models, transaction
from django.db.models import Case, F, Value, When
from django.db.models.functions import Cast

from pg_queue.domain import Message, MessageState
from pg_queue.models import DeadLetter, Result
from pg_queue.models import Message as MessageRow
from pg_queue.storage.rows import readable, readable_page


class Cancel(Protocol):
    """Ends messages of the namespace as cancelled, with all that follows; see `QueueStore.cancel`."""

    def __call__(self, message_ids: Sequence[uuid.UUID], *, reason: str) -> set[uuid.UUID]:
        """The ids of those that did."""


class DatabaseOperations:
    """Implements `pg_queue.ports.Operations`."""

    def __init__(self, alias: str, namespace: str, cancel: Cancel) -> None:
        self._alias, self._namespace, self._cancel = alias, namespace, cancel

    def browse(
        self, *, queue: str | None = None, state: MessageState | None = None, limit: int, after: uuid.UUID | None = None
    ) -> Sequence[Message]:
        """See the port."""
        if state not in {None, MessageState.WAITING, MessageState.RUNNING}:
            return []
        rows = self._in(MessageRow, queue)
        if state is not None:
            rows = rows.filter(claim_token__isnull=state is MessageState.WAITING)
        return _page(rows.values_list(*_LIVING), after, limit)

    def dead(self, *, queue: str | None = None, limit: int, after: uuid.UUID | None = None) -> Sequence[Message]:
        """See the port. A dead letter does not keep who began its last attempt, and when."""
        return _page(self._in(DeadLetter, queue).values_list(*_DEAD), after, limit)

    def drop(self, message_ids: Sequence[uuid.UUID]) -> set[uuid.UUID]:
        """See the port."""
        with transaction.atomic(using=self._alias):
            rows = self._rows(DeadLetter).filter(pk__in=message_ids)
            ids = set(rows.select_for_update().order_by("pk").values_list("pk", flat=True))
            self._rows(DeadLetter).filter(pk__in=ids).delete()
        return ids

    def purge(self, queue: str, *, reason: str, limit: int) -> int:
        """See the port. What another transaction is just claiming, ending or purging is left to that one."""
        with transaction.atomic(using=self._alias):
            waiting = self._rows(MessageRow).filter(queue=queue, claim_token__isnull=True)
            ids = waiting.select_for_update(skip_locked=True).values_list("pk", flat=True)[:limit]
            return len(self._cancel(list(ids), reason=reason))

    def clear_completed(self, *, before: datetime, limit: int) -> int:
        """See the port."""
        with transaction.atomic(using=self._alias):
            taken = self._rows(Result).filter(finished_at__lt=before, report_to__isnull=True).order_by("pk")
            ids = list(taken.select_for_update(skip_locked=True).values_list("pk", flat=True)[:limit])
            return self._rows(Result).filter(pk__in=ids).delete()[0]

    def _in(self, model: type[models.Model], queue: str | None) -> models.QuerySet[Any]:
        rows = self._rows(model).order_by("pk")
        return rows if queue is None else rows.filter(queue=queue)

    def _rows(self, model: type[models.Model]) -> models.QuerySet[Any]:
        return model._default_manager.using(self._alias).filter(namespace=self._namespace)


def _page(rows: models.QuerySet[Any], after: uuid.UUID | None, limit: int) -> list[Message]:
    def rows_after(last: uuid.UUID | None) -> list[Any]:
        return list((rows if last is None else rows.filter(pk__gt=last))[:limit])

    return readable_page(rows_after, readable, lambda row: row[0], after=after, limit=limit)


def _text(column: str) -> Cast:
    """JSON as text, so that what nobody can parse is left out by `readable` and does not end the whole page."""
    return Cast(column, models.TextField())


_NO_INSTANT = Value(None, models.DateTimeField())
_NO_TEXT = Value(None, models.TextField())
_STATE = Case(
    When(claim_token__isnull=True, then=Value(MessageState.WAITING.value)), default=Value(MessageState.RUNNING.value)
)
_HEAD = (F("pk"), F("task"), _text("args"), _text("kwargs"), F("queue"), F("priority"))
_LABELS = (_text("headers"), F("organization_id"), F("report_to"))
_LIVING: tuple[Any, ...] = (
    *_HEAD,
    _STATE,
    *map(F, ("attempts", "max_attempts", "run_after", "enqueued_at", "started_at")),
    _NO_INSTANT,
    *_LABELS,
    F("claimed_by"),
    _NO_TEXT,
    _text("last_error"),
    F("key"),
    F("barrier_id"),
)
"""A message's columns in the order that `decode_message` reads."""
_DEAD: tuple[Any, ...] = (
    *_HEAD,
    Value(MessageState.FAILED.value),
    *map(F, ("attempts", "max_attempts", "enqueued_at", "enqueued_at")),
    _NO_INSTANT,
    F("died_at"),
    *_LABELS,
    _NO_TEXT,
    _NO_TEXT,
    _text("error"),
    F("key"),
    Value(None, models.UUIDField()),
)
"""The same of a dead letter."""
