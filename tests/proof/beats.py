"""What Celery Beat leaves out of what is its own, by name. Pure."""

from __future__ import annotations

import itertools
from bisect import bisect
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from tests.proof.cast import Fault
from tests.proof.evidence import Evidence, Send
from tests.proof.stretch import History, Stretch

_AFTERMATH = timedelta(seconds=5)
"""How long after a fault Beat may still make up for it: it reads its table anew."""
_ON_TIME = timedelta(milliseconds=300)
"""How late a send of a Beat is that keeps pace."""
_SOME = 3
"""Sends by which it can be told whether it does."""
_TURN = timedelta(seconds=1)
"""How long Beat may take for all that is due at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Return:
    """How Beat took up a schedule that it had again."""

    schedule_id: UUID
    due_at: datetime
    """The occurrence after PG's last."""
    began_at: datetime
    """When Beat sent it first; or until when it did not."""
    step: timedelta
    lost: int
    """How many it left out before."""


class Pace:
    """Whether Beat was in a state to send."""

    def __init__(self, evidence: Evidence) -> None:
        self._faults = evidence.faults
        sends = [(send.sent_at, send.scheduled_for) for send in evidence.sends if send.state == "sent"]
        self._sends = sorted((sent_at, sent_at < due_at + _ON_TIME) for sent_at, due_at in sends if due_at is not None)

    def why_late(self, back: Return) -> str:
        """What kept it from beginning in time; empty: nothing, all that it sent meanwhile was on time."""
        if any(one.began_at <= back.began_at and one.ended_at + _AFTERMATH >= back.due_at for one in self._faults):
            return _because(self._faults, back.due_at, back.began_at)
        since, until = back.due_at + _ON_TIME, back.began_at - min(_TURN, back.step / 2)
        places = slice(bisect(self._sends, (since, False)), bisect(self._sends, (until, False)))
        meanwhile = [is_on_time for _, is_on_time in self._sends[places]]
        is_keeping_pace = len(meanwhile) >= _SOME and all(meanwhile)
        return "" if is_keeping_pace else "because it was busy"


def back(history: History, owned: Sequence[Stretch], due_at: datetime, stretch: Stretch) -> Return | None:
    """How Beat took it up after a stretch; None: it cannot be told, or PG had it again before, and made up for it."""
    later = [one.begins_at for one in owned if one.begins_at > stretch.ends_at]
    sent_ats = [send.sent_at for send in history.sends if send.state == "sent" and send.sent_at > stretch.ends_at]
    if not sent_ats or stretch.is_last or (later and min(later) < sent_ats[0]):
        return None
    began_at = sent_ats[0]
    if not history.is_enabled_at(stretch.ends_at) or history.is_changed(stretch.ends_at, began_at):
        return None
    rhythm = history.rhythm_at(stretch.ends_at)
    step = rhythm.step or rhythm.after(due_at) - due_at
    lost = max(0, int((began_at - due_at) / step))
    return Return(schedule_id=history.schedule.id, due_at=due_at, began_at=began_at, step=step, lost=lost)


def faults(history: History, owned: Sequence[Stretch], done: Sequence[Fault]) -> Counter[str]:
    """Occurrences that Beat did not send between two sends of its own, by what befell it meanwhile."""
    found: Counter[str] = Counter()
    sends = [send for send in history.sends if send.is_first and send.state == "sent"]
    for early, late in itertools.pairwise(sends):
        lost = _lost(history, early, late)
        if lost and not _is_interrupted(history, owned, early.sent_at, late.sent_at):
            found[f"not sent, {_why(history, done, early.sent_at, late.sent_at)}"] += lost
    return found


def _lost(history: History, early: Send, late: Send) -> int:
    rhythm = history.rhythm_at(early.sent_at)
    assert early.scheduled_for is not None
    assert late.scheduled_for is not None
    if rhythm.step:
        return max(0, int((late.sent_at - early.sent_at - rhythm.step) / rhythm.step))
    return max(0, rhythm.count(rhythm.after(early.scheduled_for), late.scheduled_for))


def _is_interrupted(history: History, owned: Sequence[Stretch], since: datetime, until: datetime) -> bool:
    """Whether it was PG's, changed or paused in between."""
    is_pgs = any(stretch.begins_at <= until and stretch.ends_at >= since for stretch in owned)
    return is_pgs or history.is_changed(since, until)


def _why(history: History, done: Sequence[Fault], since: datetime, until: datetime) -> str:
    if any(one.state == "cancelled" and since <= one.requested_at <= until for one in history.handovers):
        return "while a hand-over waited that was taken back"
    return _because(done, since, until)


def _because(done: Sequence[Fault], since: datetime, until: datetime) -> str:
    befallen = [one.what for one in done if one.began_at <= until and one.ended_at + _AFTERMATH >= since]
    return f"because it was {befallen[0]}" if befallen else "because it was busy"
