"""The scheduler class for `celery beat -S scheduler.beat.gate:DownbeatScheduler` (or `-S downbeat`).

It is django-celery-beat's `DatabaseScheduler`, and stops cleanly also in the middle of a query. In mode `observe` it
adds nothing else: the observer records what it sends.
In mode `gate` a due entry that has a mirror is sent only after its occurrence is claimed in the ledger:

1. Beat holds an entry to be due. Its occurrence is claimed, in a transaction of its own, before Beat advances the
   entry.
   - claimed: on with 2;
   - taken, by PG or by an earlier send, or the schedule is PG's: refused. Nothing is published, and Beat goes on as if
     it had sent;
   - no answer: nothing is published, the entry is not advanced, and the next attempt is a moment later.
2. Beat publishes.
3. The claim is settled: `sent`; or `failed`, where the broker refused it, and then the occurrence is given back and
   Beat tries again.

A stop waits for the end of 1, and of 2 and 3; what is claimed and not begun is then given back. A crash between 1 and 3
leaves the claim `claimed`. Whether the message was published nobody knows: the occurrence stays
taken, and is listed for a person (`scheduler.api.unknown_sends`). The next claim waits until every claim before it is
settled, so that Beat never refuses itself.
"""

from __future__ import annotations

import logging
import time
import uuid
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from heapq import heapify
from typing import Any

from celery.beat import SchedulingError
from celery.schedules import schedstate
from django_celery_beat.schedulers import DatabaseScheduler
from psycopg.errors import LockNotAvailable, QueryCanceled

from scheduler.beat import observer, refuse_sqlite
from scheduler.beat.journal import Journal
from scheduler.beat.sends import Claim, Send
from scheduler.beat.sessions import BoundedSession
from scheduler.beat.stops import stops_put_off
from scheduler.domain import BeatMode, SendState
from scheduler.settings import scheduler_settings

logger = logging.getLogger(__name__)

_EXEMPT = frozenset({"celery.backend_cleanup"})
"""Celery's own entry, which no schedule mirrors: sent whatever the database says."""
_UNANSWERED_SECONDS = 1.0, 5.0
"""First and longest wait before an occurrence is claimed again."""
_UNPUBLISHED_SECONDS = 1.0, 60.0
"""First and longest wait before a send is tried again that the broker refused."""
_COMPLAINT_SECONDS = 60.0


@dataclass(slots=True)
class _Attempt:
    """What an entry that is due is waiting for."""

    message_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    """Celery's id of the task to be sent; the same until a claim is answered, so that its answer is found again."""
    is_repeated: bool = False
    unanswered: int = 0
    unpublished: int = 0
    not_before: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Decision:
    """The answer for an entry that is due."""

    message_id: str
    claim: Claim | None
    """None: it has no mirror, and is sent as ever."""


class Gate:
    """Claims for one scheduler. Used by Beat's thread alone; signal handlers, which interrupt it, see `is_busy`."""

    def __init__(self, scheduler: object) -> None:
        self._scheduler = scheduler
        self._session = BoundedSession("downbeat beat gate")
        self._journal: Journal | None = None
        self._decided: dict[str, _Decision] = {}
        self._attempts: dict[str, _Attempt] = {}
        self._unsettled: list[tuple[Claim, SendState]] = []
        self._closed_until = self._complained_at = 0.0
        self._is_busy = False

    def admit(self, entry: Any) -> float:
        """Seconds after which to ask again; 0: it is decided what becomes of the entry, see `take`."""
        if entry.name in self._decided:
            return 0.0
        attempt = self._attempts.setdefault(entry.name, _Attempt())
        wait = max(self._closed_until, attempt.not_before) - time.monotonic()
        if wait > 0:
            return wait
        try:
            claim = self._claim(entry, attempt)
        except Exception as error:  # noqa: BLE001  whatever keeps the claim from being made, nothing is sent
            return self._put_off(entry.name, attempt, error)
        attempt.unanswered = 0
        self._decided[entry.name] = _Decision(message_id=attempt.message_id, claim=claim)
        if claim is not None and claim.is_refused:
            observer.start(self._scheduler).tally.refused += 1
            details = entry.name, claim.scheduled_for, claim.schedule_id
            logger.warning("beat.refused name=%r occurrence=%s schedule=%s", *details)
        return 0.0

    def take(self, name: str) -> _Decision:
        """What is decided for the entry, once. Raises KeyError where nothing is."""
        return self._decided.pop(name)

    def is_refused(self, name: str) -> bool:
        """Whether it is decided that the entry is not published."""
        decision = self._decided.get(name)
        return decision is not None and decision.claim is not None and decision.claim.is_refused

    def forget(self, name: str) -> None:
        """The entry's turn is over."""
        self._attempts.pop(name, None)
        self._decided.pop(name, None)

    def settle(self, claim: Claim, state: SendState) -> None:
        """Say what became of a send. Kept for later where the database does not answer; raises nothing."""
        self._unsettled.append((claim, state))
        tally = observer.start(self._scheduler).tally
        if state == SendState.SENT:
            tally.sent += 1
        else:
            tally.failed += 1
        try:
            self._settle_all()
        except Exception as error:  # noqa: BLE001  it is tried again before the next claim
            self._complain("beat.not_settled", error)

    def put_back(self, name: str) -> float:
        """The broker refused the entry: seconds after which it is tried again."""
        attempt = self._attempts.get(name, _Attempt())
        wait = _growing(_UNPUBLISHED_SECONDS, attempt.unpublished)
        self._attempts[name] = _Attempt(unpublished=attempt.unpublished + 1, not_before=time.monotonic() + wait)
        return wait

    def close(self) -> None:
        """Give back what was claimed and is not going to be published, as far as the database answers.

        Does nothing where it interrupts a claim: that one's transaction is undone, or it stays `claimed`.
        """
        if self._is_busy:
            return
        for decision in self._decided.values():
            if decision.claim is not None and not decision.claim.is_refused:
                self._unsettled.append((decision.claim, SendState.FAILED))
        self._decided.clear()
        with suppress(Exception):
            self._settle_all()
        self._session.close()

    def _claim(self, entry: Any, attempt: _Attempt) -> Claim | None:
        self._settle_all()
        send = Send(
            beat_name=entry.name,
            message_id=attempt.message_id,
            sent_at=datetime.now(UTC),
            state=SendState.CLAIMED,
        )
        self._is_busy = True
        try:
            with stops_put_off(), self._session.open() as session:
                return self._own_journal().claim(session, send, entry.model, is_repeated=attempt.is_repeated)
        finally:
            self._is_busy = False

    def _settle_all(self) -> None:
        """Raises what the database says; what is not settled then is kept."""
        self._is_busy = True
        try:
            while self._unsettled:
                with self._session.open() as session:
                    self._own_journal().settle(session, *self._unsettled[0])
                del self._unsettled[0]
        finally:
            self._is_busy = False

    def _own_journal(self) -> Journal:
        if self._journal is None:
            self._journal = Journal(observer.start(self._scheduler).process)
        return self._journal

    def _put_off(self, name: str, attempt: _Attempt, error: Exception) -> float:
        """A row that is locked holds up its own entry; a database that does not answer holds up all."""
        wait = _growing(_UNANSWERED_SECONDS, attempt.unanswered)
        attempt.is_repeated = True
        attempt.unanswered += 1
        attempt.not_before = time.monotonic() + wait
        if not isinstance(error, LockNotAvailable | QueryCanceled):
            self._closed_until = time.monotonic() + _UNANSWERED_SECONDS[0]
        self._complain(f"beat.not_claimed name={name!r}", error)
        return wait

    def _complain(self, event: str, error: Exception) -> None:
        if time.monotonic() >= self._complained_at + _COMPLAINT_SECONDS:
            self._complained_at = time.monotonic()
            logger.error("%s error=%s: %s", event, type(error).__name__, str(error).strip())


class DownbeatScheduler(DatabaseScheduler):  # type: ignore[misc]  # django-celery-beat is not typed
    """django-celery-beat's scheduler, which in mode `gate` sends nothing that it cannot claim.

    The mode is `SCHEDULER["BEAT_MODE"]`.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """As `DatabaseScheduler`.

        Raises:
            InvalidInput: `SCHEDULER` is not valid.
            BeatUnavailable: the schedules are kept in SQLite.
        """
        refuse_sqlite("celery beat -S scheduler.beat.gate:DownbeatScheduler")
        self.downbeat_mode = BeatMode(scheduler_settings().beat_mode)
        self._gate = Gate(self) if self.downbeat_mode == BeatMode.GATE else None
        self._reserved: Any = None
        self._before: tuple[datetime | None, int] = None, 0
        self._put_back: list[tuple[Any, float]] = []
        super().__init__(*args, **kwargs)

    def tick(self, *args: Any, **kwargs: Any) -> Any:
        """As Celery's; an entry that the broker refused is tried again soon, not at its next occurrence."""
        delay = super().tick(*args, **kwargs)
        while self._put_back:
            self._bring_forward(*self._put_back.pop())
        return delay

    def is_due(self, entry: Any) -> Any:
        """As Celery's; an entry whose occurrence cannot be claimed is not due yet."""
        with stops_put_off():  # it may write Beat's row
            due = super().is_due(entry)
        if self._gate is None or not due[0] or entry.name in _EXEMPT:
            return due
        self.producer  # noqa: B018  connected first: nothing is claimed while there is no broker
        wait = self._gate.admit(entry)
        return due if wait <= 0 else schedstate(is_due=False, next=wait)

    def schedule_changed(self) -> Any:
        """As `DatabaseScheduler`'s. A stop waits until the database has answered.

        Celery's handler of SIGTERM writes to the database at once. On psycopg 3 it would wait for ever for the very
        statement that it interrupts.
        """
        with stops_put_off():
            return super().schedule_changed()

    def enabled_models(self) -> Any:
        """As `DatabaseScheduler`'s; stops are put off as in `schedule_changed`."""
        with stops_put_off():
            return super().enabled_models()

    def sync(self) -> None:
        """As `DatabaseScheduler`'s; stops are put off as in `schedule_changed`."""
        with stops_put_off():
            super().sync()

    def reserve(self, entry: Any) -> Any:
        """As `DatabaseScheduler`'s; what it changes is kept, to be undone where the broker refuses the entry."""
        self._before = entry.model.last_run_at, entry.model.total_run_count
        self._reserved = super().reserve(entry)
        return self._reserved

    def apply_entry(self, entry: Any, producer: Any = None) -> None:
        """As Celery's; an entry whose occurrence another has is left out."""
        if self._gate is not None and self._gate.is_refused(entry.name):
            self._gate.forget(entry.name)
        else:
            super().apply_entry(entry, producer=producer)

    def apply_async(self, entry: Any, producer: Any = None, advance: bool = True, **kwargs: Any) -> Any:
        """As Celery's; claims first, if that has not happened, and settles the claim.

        Raises: SchedulingError: it was not published, or could not be claimed.
        """
        if self._gate is None or entry.name in _EXEMPT:
            return super().apply_async(entry, producer=producer, advance=advance, **kwargs)
        if self._gate.admit(entry) > 0:
            raise SchedulingError(f"{entry.name}: its occurrence cannot be claimed now, so it is not sent")
        with stops_put_off():
            if advance:
                entry = self.reserve(entry)
            return self._send(entry, self._gate.take(entry.name), producer=producer, **kwargs)

    def close(self) -> None:
        """As Celery's; gives back what is claimed and not going to be published."""
        try:
            super().close()
        finally:
            if self._gate is not None:
                self._gate.close()

    def _send(self, entry: Any, decision: _Decision, **kwargs: Any) -> Any:
        """Publish the entry, unless it is refused, and settle its claim. Raises: SchedulingError."""
        assert self._gate is not None
        claim, message_id = decision.claim, decision.message_id
        if claim is None or claim.is_refused:
            self._gate.forget(entry.name)
            return None if claim else super().apply_async(entry, advance=False, **kwargs)
        options, entry.options = entry.options, {**entry.options, "task_id": message_id}
        try:
            with observer.start(self).suspended():
                result = super().apply_async(entry, advance=False, **kwargs)
        except Exception:
            self._gate.settle(claim, SendState.FAILED)
            self._undo(entry)
            raise
        finally:
            entry.options = options
        self._gate.settle(claim, SendState.SENT)
        self._gate.forget(entry.name)
        return result

    def _undo(self, entry: Any) -> None:
        """Let the entry be due again, as if it had not been reserved."""
        assert self._gate is not None
        wait = self._gate.put_back(entry.name)
        if self._reserved is not None and self._reserved.name == entry.name:
            for row in (self._reserved, self._reserved.model):
                row.last_run_at, row.total_run_count = self._before
            self._put_back.append((self._reserved, wait))

    def _bring_forward(self, entry: Any, wait: float) -> None:
        """In Celery's heap, which holds the entry at its next occurrence."""
        heap = self._heap or []
        for place, event in enumerate(heap):
            if event.entry is entry:
                heap[place] = event._replace(time=self._when(entry, wait))
        heapify(heap)


def _growing(bounds: tuple[float, float], times: int) -> float:
    first, longest = bounds
    return min(longest, first * 2.0 ** min(times, 10))
