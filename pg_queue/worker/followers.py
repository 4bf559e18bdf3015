"""What executions have sent on, enqueued together with their settlements."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from uuid import UUID

from django.db import IntegrityError, transaction

from pg_queue.celery.envelope import with_fresh_id
from pg_queue.domain import NewMessage, Settled, Settlement
from pg_queue.errors import InvalidMessage
from pg_queue.ports import QueueStore
from pg_queue.storage import store


def settle(own: QueueStore, settlements: Sequence[Settlement]) -> dict[UUID, Settled]:
    """Settle in the worker's own store, and enqueue in the default one what the executions have sent on.

    Where both are in one database, that is one transaction: followers are there if, and only if, their settlement was
    not lost. Elsewhere they are enqueued before, so that a crash in between enqueues them twice, and loses none.
    """
    if not any(settlement.outcome.followers for settlement in settlements):
        return own.settle(settlements)
    home = store()
    if home.database is None or home.database != own.database:
        _enqueue(home, [message for s in settlements for message in s.outcome.followers])
        return own.settle(settlements)
    with transaction.atomic(using=home.database):
        answers = own.settle(settlements)
        held = (s for s in settlements if answers[s.token] is not Settled.LOST)
        _enqueue(home, [message for s in held for message in s.outcome.followers])
    return answers


def _enqueue(home: QueueStore, messages: Sequence[NewMessage]) -> None:
    """Those whose id is that of a message which still lives get one of their own, as Celery's messages may."""
    if not messages:
        return
    try:
        with _savepoint(home):
            home.enqueue(messages)
    except (IntegrityError, InvalidMessage) as error:
        if isinstance(error, InvalidMessage) and error.field != "id":
            raise
        if len(messages) == 1:
            home.enqueue([with_fresh_id(messages[0])])
            return
        for message in messages:
            _enqueue(home, [message])


def _savepoint(home: QueueStore) -> AbstractContextManager[None]:
    return nullcontext() if home.database is None else transaction.atomic(using=home.database)
