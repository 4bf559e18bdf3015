"""What Celery Beat leaves out of what is its own, by name. Pure."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta

from tests.proof.cast import Fault
from tests.proof.evidence import Send
from tests.proof.stretch import History, Stretch

_AFTERMATH = timedelta(seconds=5)
"""How long after a fault Beat may still make up for it: it reads its table anew."""


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
    if any(stretch.begins_at <= until and stretch.ends_at >= since for stretch in owned):
        return True
    return any(since <= one.at <= until and (one.expressions or one.is_switch) for one in history.changes)


def _why(history: History, done: Sequence[Fault], since: datetime, until: datetime) -> str:
    if any(one.state == "cancelled" and since <= one.requested_at <= until for one in history.handovers):
        return "while a hand-over waited that was taken back"
    befallen = [one.what for one in done if one.began_at <= until and one.ended_at + _AFTERMATH >= since]
    return f"because it was {befallen[0]}" if befallen else "because it was busy"
