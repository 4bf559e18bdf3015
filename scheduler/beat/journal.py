"""What Beat sends, written down: each send a row, and its occurrence in the ledger, in one transaction.

The ledger's key `(schedule, scheduled_for, origin)` is the tick's own, so whoever writes it first has the occurrence.
While Beat fires a schedule, its mirror follows in the same transaction: when it last ran, how often, and for an
interval when it runs next. A send without a mirror is kept, too, without a schedule.

The rows of the mirrors are held meanwhile, so that a schedule is not handed over, edited or fired in between. Mirrors
that somebody else holds are left for later (observe) or waited for (gate); nothing else waits for them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

from psycopg.rows import class_row, dict_row

from scheduler.beat import reading
from scheduler.beat.names import is_canary
from scheduler.beat.occurrences import EarlierSend, following, occurrence_of
from scheduler.beat.sends import Claim, Process, Send, Tally
from scheduler.beat.sessions import Session
from scheduler.domain import BeatMode, Firer, ScheduleKind, SendState
from scheduler.models import PgPeriodicSchedule
from scheduler.statements import statements

if TYPE_CHECKING:
    from django_celery_beat.models import PeriodicTask

_SQL = statements("beat_sends")
_LEAVE = "SKIP LOCKED"
_WAIT = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Noted:
    """A row as it was recorded."""

    id: int
    message_id: str
    schedule_id: UUID | None
    scheduled_for: datetime | None
    sent_at: datetime
    is_first: bool
    state: str


@dataclass(slots=True)
class _Line:
    """A send with what is known of its schedule."""

    send: Send
    row: PgPeriodicSchedule | None
    is_held: bool
    scheduled_for: datetime | None = None

    @property
    def is_claiming(self) -> bool:
        """Whether it may take its occurrence: what was not published has none, and Beat may not claim what is PG's."""
        if self.row is None or self.send.state == SendState.FAILED:
            return False
        return self.send.state != SendState.CLAIMED or self._is_beats

    @property
    def _is_beats(self) -> bool:
        """Whether the occurrence is Beat's to fire; of a schedule that is handed back, one after the instant set."""
        assert self.row is not None
        if self.row.firer == Firer.BEAT:
            return True
        starts_after, occurrence = self.row.beat_from, self.scheduled_for
        return starts_after is not None and occurrence is not None and occurrence > starts_after


class Journal:
    """Writes for one Beat process. Not safe between threads: each has a journal of its own."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self._own: dict[UUID, datetime] = {}
        """When this process sent each schedule last, as far as its phase goes on from there."""

    def record(
        self, session: Session, sends: Sequence[Send], *, waiting_since: datetime, is_repeated: bool = False
    ) -> list[Send]:
        """Record sends that were made, in their order; those are returned whose mirror somebody holds.

        Opens and commits one transaction. A send before `waiting_since` waits for no mirror: it is recorded, and the
        mirror is left as it is. `is_repeated`: an attempt with some of them failed, and may have been committed all the
        same.

        Raises: psycopg.Error; nothing is recorded.
        """
        with session.transaction():
            known = self._recorded(session, sends) if is_repeated else {}
            lines = self._lines(session, [send for send in sends if send.message_id not in known], _LEAVE)
            left = _left(lines, waiting_since)
            waiting = set(left)
            lines = [line for line in lines if line.send not in waiting]
            self._name(session, lines)
            self._advance(session, lines, self._note(session, lines))
        self._own |= {line.row.pk: line.send.sent_at for line in lines if line.row is not None}
        return left

    def claim(self, session: Session, send: Send, task: PeriodicTask, *, is_repeated: bool = False) -> Claim | None:
        """Ask for the occurrence of a send that is to be made; None: Beat's entry has no mirror, and nothing is kept.

        What Beat's row, `task`, says of when it is due counts. Opens and commits one transaction. `is_repeated`: an
        earlier attempt with this message id failed, and may have been committed all the same.

        Raises: psycopg.Error; nothing is claimed, or only the next attempt can tell.
        """
        with session.transaction():
            noted = self._recorded(session, [send]).get(send.message_id) if is_repeated else None
            if noted is None:
                (line,) = self._lines(session, [send], _WAIT)
                if line.row is None:
                    return None
                reading.follow_cadence(line.row, task)
                self._name(session, [line])
                (noted,) = self._note(session, [line])
                self._advance(session, [line], [noted])
        claim = _claim(noted)
        if claim.is_refused:
            self._own[claim.schedule_id] = claim.sent_at  # Beat goes on as if it had sent
        return claim

    def settle(self, session: Session, claim: Claim, state: SendState) -> None:
        """Say whether a claim's send was published (`sent`), or was not (`failed`), which gives its occurrence back.

        Opens and commits one transaction. A second time it does nothing.

        Raises: psycopg.Error; nothing is settled, or only the next attempt can tell.
        """
        with session.transaction():
            settled = session.execute(_SQL["settle"], {"id": claim.id, "state": state.value}).rowcount
            if settled and state == SendState.FAILED:
                session.execute(_SQL["release"], asdict(claim))
            elif settled:
                _move(session, [_Move(claim.schedule_id, claim.sent_at, claim.scheduled_for, firsts=1)])
        if state == SendState.SENT:
            self._own[claim.schedule_id] = claim.sent_at

    def give_sign_of_life(self, session: Session, tally: Tally, *, is_stopped: bool = False) -> None:
        """Register the process with what it has sent so far, or bring that up to date. Raises: psycopg.Error."""
        numbers = {"sent": tally.sent, "refused": tally.refused, "failed": tally.failed, "lost": tally.lost}
        process = asdict(self.process) | {"mode": self.process.mode.value}
        session.execute(_SQL["sign_of_life"], process | numbers | {"is_stopped": is_stopped})

    def _recorded(self, session: Session, sends: Sequence[Send]) -> dict[str, _Noted]:
        parameters = {
            "names": [send.beat_name for send in sends],
            "message_ids": [send.message_id for send in sends],
            "process": self.process.id,
        }
        with session.cursor(row_factory=class_row(_Noted)) as cursor:
            return {noted.message_id: noted for noted in cursor.execute(_SQL["recorded"], parameters)}

    def _lines(self, session: Session, sends: Sequence[Send], wait: str) -> list[_Line]:
        names = sorted({send.beat_name for send in sends if send.is_entry})
        held = _rows(session, _SQL["hold_mirrors"].format(wait=wait), names)
        others = sorted(set(names) - held.keys())
        read = _rows(session, _SQL["read_mirrors"], others) if others else {}
        rows = held | read
        return [
            _Line(send, rows.get(send.beat_name) if send.is_entry else None, send.beat_name in held) for send in sends
        ]

    def _name(self, session: Session, lines: Sequence[_Line]) -> None:
        intervals = {line.row.pk for line in lines if line.row is not None and line.row.kind == ScheduleKind.INTERVAL}
        earlier = self._earlier(session, intervals) if intervals else {}
        for line in lines:
            if line.row is None:
                continue
            line.scheduled_for = occurrence_of(line.row, line.send.sent_at, earlier.get(line.row.pk))
            if line.scheduled_for is not None:
                earlier[line.row.pk] = EarlierSend(
                    sent_at=line.send.sent_at, scheduled_for=line.scheduled_for, is_own=True
                )

    def _earlier(self, session: Session, ids: Iterable[UUID]) -> dict[UUID, EarlierSend]:
        found = {
            schedule_id: EarlierSend(sent_at=sent_at, scheduled_for=occurrence, is_own=process == self.process.id)
            for schedule_id, sent_at, occurrence, process in session.execute(_SQL["earlier_sends"], {"ids": list(ids)})
        }
        for schedule_id in ids:
            own = self._own.get(schedule_id)
            if own is not None and (schedule_id not in found or own > found[schedule_id].sent_at):
                found[schedule_id] = EarlierSend(sent_at=own, scheduled_for=own, is_own=True)
        return found

    def _note(self, session: Session, lines: Sequence[_Line]) -> list[_Noted]:
        if not lines:
            return []
        parameters = {
            "process": self.process.id,
            "is_gate": self.process.mode == BeatMode.GATE,
            "beat_names": [line.send.beat_name for line in lines],
            "schedule_ids": [line.row and line.row.pk for line in lines],
            "organization_ids": [line.row and line.row.organization_id for line in lines],
            "message_ids": [line.send.message_id for line in lines],
            "scheduled_fors": [line.scheduled_for for line in lines],
            "sent_ats": [line.send.sent_at for line in lines],
            "states": [line.send.state.value for line in lines],
            "are_claiming": [line.is_claiming for line in lines],
        }
        with session.cursor(row_factory=class_row(_Noted)) as cursor:
            return cursor.execute(_SQL["record"], parameters).fetchall()

    def _advance(self, session: Session, lines: Sequence[_Line], noted: Sequence[_Noted]) -> None:
        """Have the mirrors follow, but for claims: they do when it is known that they were sent."""
        rows = {line.row.pk: line.row for line in lines if line.row is not None and line.is_held}
        moves: dict[UUID, _Move] = {}
        for one in noted:
            row = rows.get(one.schedule_id) if one.schedule_id else None
            if row is not None and row.firer == Firer.BEAT and one.state != SendState.CLAIMED:
                moves.setdefault(row.pk, _Move(row.pk, one.sent_at)).add(one, row)
        _move(session, [move for move in moves.values() if move.is_needed])


@dataclass(slots=True)
class _Move:
    """How far sends take one mirror."""

    schedule_id: UUID
    sent_at: datetime
    scheduled_for: datetime | None = None
    firsts: int = 0
    following: datetime | None = None
    """Where a paused schedule goes on; None: where it stands."""
    is_needed: bool = False

    def add(self, noted: _Noted, row: PgPeriodicSchedule) -> None:
        """A send of the mirror `row`; one that was not published moves an interval's phase alone."""
        self.sent_at = max(self.sent_at, noted.sent_at)
        self.is_needed |= row.kind == ScheduleKind.INTERVAL
        if noted.state == SendState.SENT and noted.scheduled_for is not None:
            self.scheduled_for = max(self.scheduled_for or noted.scheduled_for, noted.scheduled_for)
            self.firsts += noted.is_first
            self.is_needed = True
            if not row.enabled and row.next_run_at == noted.scheduled_for:
                self.following = following(row, noted.scheduled_for)


def _move(session: Session, moves: Sequence[_Move]) -> None:
    if moves:
        parameters = {
            "ids": [move.schedule_id for move in moves],
            "scheduled_fors": [move.scheduled_for for move in moves],
            "sent_ats": [move.sent_at for move in moves],
            "firsts": [move.firsts for move in moves],
            "followings": [move.following for move in moves],
        }
        session.execute(_SQL["advance_mirrors"], parameters)


def _rows(session: Session, statement: str, names: list[str]) -> dict[str, PgPeriodicSchedule]:
    with session.cursor(row_factory=dict_row) as cursor:
        return {
            found["beat_name"]: PgPeriodicSchedule(**found) for found in cursor.execute(statement, {"names": names})
        }


def _left(lines: Sequence[_Line], waiting_since: datetime) -> list[Send]:
    """The sends that wait for their mirrors, and every canary after one: it vouches for what was sent before it."""
    left: list[Send] = []
    for line in lines:
        is_waiting = line.row is not None and not line.is_held and line.send.sent_at >= waiting_since
        if is_waiting or (left and is_canary(line.send.beat_name)):
            left.append(line.send)
    return left


def _claim(noted: _Noted) -> Claim:
    assert noted.schedule_id is not None
    return Claim(
        id=noted.id,
        schedule_id=noted.schedule_id,
        scheduled_for=noted.scheduled_for,
        sent_at=noted.sent_at,
        is_refused=noted.state == SendState.REFUSED,
    )
