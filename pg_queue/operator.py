"""What an operator does to queues and dead letters, each act on record.

The record is written before the act, in a transaction of its own, and its count grows with each batch: whatever is cut
off in the middle, and whichever store it is on, the record says who wanted what, why, and how far it came. Where the
store lives in the record's own database, batch and count are one transaction.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING

from django.db import transaction
from django.db.models import F, QuerySet
from django.db.models.functions import Now

from pg_queue.domain import Action, Capability, Switch
from pg_queue.ports import QueueStore
from pg_queue.settings import queue_settings
from pg_queue.storage import store

if TYPE_CHECKING:
    from pg_queue.models import Operation
from pg_queue.validation import check_reason

BATCH = 1000
"""Messages in one transaction."""


class Operator:
    """Acts on the queues of one namespace of a store, in somebody's name.

    Each act raises InvalidMessage (field `reason`) for a reason that cannot be kept, before anything is done.
    """

    def __init__(self, by: str, *, using: str = "default", namespace: str | None = None) -> None:
        """`by` is who acts, as the record is to have it; `namespace` None: the store's own.

        Raises: Configuration for an unknown store; CapabilityMissing for a namespace that it cannot keep apart.
        """
        found = store(using)
        self.store: QueueStore = found if namespace is None else found.within(namespace)
        self._by, self._using = by[:255], using

    def turn(self, queue: str | None, *, is_on: bool, reason: str = "") -> Switch:
        """Turn a queue, or with None all of the namespace, on or off. See `pg_queue.ports.Switches`."""
        switches = self.store.switches
        with self._recorded(Action.ON if is_on else Action.OFF, queue=queue or "", reason=reason):
            return switches.turn(queue, is_on=is_on, by=self._by, reason=reason)

    def purge(self, queue: str, *, reason: str = "") -> int:
        """Cancel everything that waits in a queue; return how many. What runs goes on."""
        operations = self.store.operations
        with self._recorded(Action.PURGE, queue=queue, reason=reason) as record:
            return self._in_batches(record, lambda: operations.purge(queue, reason=self._why(reason), limit=BATCH))

    def replay(
        self, message_ids: Sequence[uuid.UUID], *, reason: str = "", keep_attempts: bool = False
    ) -> set[uuid.UUID]:
        """Let these dead letters run again, with all their attempts; return the ids of those that were there.

        With `keep_attempts` those that were made stay counted, as far as one is left.
        """
        return self._with_each(Action.REPLAY, message_ids, self._replaying(keep_attempts), reason)

    def replay_all(self, queue: str, *, reason: str = "", keep_attempts: bool = False) -> int:
        """Let every dead letter of a queue run again that is there now; return how many. As `replay`."""
        return self._with_all(Action.REPLAY, queue, self._replaying(keep_attempts), reason)

    def drop(self, message_ids: Sequence[uuid.UUID], *, reason: str = "") -> set[uuid.UUID]:
        """Delete these dead letters for good; return the ids of those that were there."""
        return self._with_each(Action.DROP, message_ids, self.store.operations.drop, reason)

    def drop_all(self, queue: str, *, reason: str = "") -> int:
        """Delete every dead letter of a queue that is there now, for good; return how many."""
        return self._with_all(Action.DROP, queue, self.store.operations.drop, reason)

    def drop_events(self, event_ids: Sequence[uuid.UUID], *, reason: str = "") -> set[uuid.UUID]:
        """Delete these events from the outbox, never to leave; return the ids of those that were there.

        Of a message that is routed away the event's id is the message's; nothing will ever come of it then.
        """
        return self._with_each(Action.DROP_EVENTS, event_ids, self.store.outbox.drop, reason)

    def clear_completed(self, before: datetime, *, reason: str = "") -> int:
        """Delete the outcomes that completed before this instant and were taken; return how many."""
        operations = self.store.operations
        with self._recorded(Action.CLEAR, reason=reason or f"completed before {before.isoformat()}") as record:
            return self._in_batches(record, lambda: operations.clear_completed(before=before, limit=BATCH))

    def _replaying(self, keep_attempts: bool) -> Callable[[Sequence[uuid.UUID]], set[uuid.UUID]]:
        return partial(self.store.replay, keep_attempts=keep_attempts)

    def _with_each(
        self,
        action: Action,
        message_ids: Sequence[uuid.UUID],
        act: Callable[[Sequence[uuid.UUID]], set[uuid.UUID]],
        reason: str,
    ) -> set[uuid.UUID]:
        done: set[uuid.UUID] = set()
        with self._recorded(action, message_ids=message_ids, reason=reason) as record:
            for at in range(0, len(message_ids), BATCH):
                with self._together():
                    found = act(message_ids[at : at + BATCH])
                    self._count(record, len(found))
                done |= found
        return done

    def _with_all(
        self, action: Action, queue: str, act: Callable[[Sequence[uuid.UUID]], set[uuid.UUID]], reason: str
    ) -> int:
        """Page by page by id, so that one which dies again meanwhile is not met twice."""
        operations, done = self.store.operations, 0
        after: uuid.UUID | None = None
        with self._recorded(action, queue=queue, reason=reason) as record:
            while page := operations.dead(queue=queue, limit=BATCH, after=after):
                with self._together():
                    found = len(act([message.id for message in page]))
                    self._count(record, found)
                done, after = done + found, page[-1].id
        return done

    def _in_batches(self, record: Operation, act: Callable[[], int]) -> int:
        done = 0
        while True:
            with self._together():
                found = act()
                self._count(record, found)
            done += found
            if found < BATCH:
                return done

    @contextmanager
    def _recorded(
        self, action: Action, *, queue: str = "", message_ids: Sequence[uuid.UUID] | None = None, reason: str
    ) -> Iterator[Operation]:
        check_reason(reason)
        record = _records().create(
            actor=self._by,
            action=action,
            store=self._using,
            namespace=self.store.namespace,
            queue=queue,
            message_ids=None if message_ids is None else [str(one) for one in message_ids],
            reason=reason,
        )
        yield record
        _records().filter(pk=record.pk).update(finished_at=Now())

    def _together(self) -> AbstractContextManager[None]:
        """One transaction for store and record, where that can be."""
        is_shared = Capability.TRANSACTIONS in self.store.capabilities
        return transaction.atomic(using=_alias()) if is_shared else nullcontext()

    def _count(self, record: Operation, found: int) -> None:
        _records().filter(pk=record.pk).update(count=F("count") + found)

    def _why(self, reason: str) -> str:
        return f"purged by {self._by}: {reason}" if reason else f"purged by {self._by}"


def _alias() -> str:
    return queue_settings().database


def _records() -> QuerySet[Operation]:
    # Not at the top: the public surface, which offers `Operator`, is imported before the apps are loaded.
    from pg_queue.models import Operation

    return Operation.objects.using(_alias())
