"""The words of a comparison: what became of an occurrence on both sides, and why."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from scheduler.beat.differences import DifferenceRule


class Verdict(StrEnum):
    """How Celery Beat and the tick agree on one occurrence."""

    MATCH = "match"
    """Beat sent it once, on time, and the tick would have fired it."""
    DRIFT = "drift"
    """Both, of an interval, at instants that differ: each counts from its own last one."""
    SEMANTICS = "semantics"
    """They differ by a known habit of Beat's, or a known circumstance, which is named."""
    DUPLICATE = "duplicate"
    """It was sent more than once, or sent by Beat and fired by PG."""
    BEAT_ONLY = "beat_only"
    """Only Beat sent it, and nothing known explains it."""
    PG_ONLY = "pg_only"
    """Only the tick would have fired it, and nothing known explains it."""


class Circumstance(StrEnum):
    """Why the two differ although their rules agree."""

    LATE = "late"
    RELOAD_LAG = "reload_lag"
    RE_ENABLE_BURST = "re_enable_burst"
    HOUR_WINDOW = "hour_window"
    BEAT_DOWN = "beat_down"
    OVERTAKEN = "overtaken"
    BEAT_STARTED = "beat_started"
    BEAT_RESTARTED = "beat_restarted"
    TWO_BEATS = "two_beats"
    LOST_SEND = "lost_send"
    NO_SHADOW = "no_shadow"
    BOTH_FIRERS = "both_firers"

    @property
    def sentence(self) -> str:
        """The circumstance for people."""
        return _SENTENCES[self]


_SENTENCES = {
    Circumstance.LATE: "Celery Beat sent it late: its loop was busy, or it was down when it was due.",
    Circumstance.RELOAD_LAG: (
        "The schedule had just been changed: Celery Beat goes on by what it has loaded until it loads again, up to 5 s."
    ),
    Circumstance.RE_ENABLE_BURST: (
        "The schedule had just been enabled with an old last run: Celery Beat then sends at once."
    ),
    Circumstance.HOUR_WINDOW: (
        "It was sent at an hour that the expression does not name: django-celery-beat leaves rows out by their hour, "
        "and makes up for them at another after an outage."
    ),
    Circumstance.BEAT_DOWN: "No Celery Beat was running when it was due.",
    Circumstance.OVERTAKEN: (
        "The record of the send came before the tick, which was busy: an interval is then counted on from the send, "
        "and the tick has passed the occurrence over."
    ),
    Circumstance.BEAT_STARTED: (
        "Celery Beat had just started, or had loaded the schedule for the first time: its interval begins with that."
    ),
    Circumstance.BEAT_RESTARTED: (
        "A Celery Beat that is killed before it has written back its last runs sends them again when it starts."
    ),
    Circumstance.TWO_BEATS: "Two Celery Beats were running: each sends everything.",
    Circumstance.LOST_SEND: "Celery Beat was running and did not send it: it cannot keep up, or skipped it.",
    Circumstance.NO_SHADOW: "No scheduler was ticking then, so there is no shadow to compare with.",
    Circumstance.BOTH_FIRERS: "PG had fired the occurrence, and Celery Beat sent it as well.",
}

Cause = DifferenceRule | Circumstance


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What was found of one occurrence."""

    schedule_id: UUID
    scheduled_for: datetime
    verdict: Verdict
    cause: Cause | None = None
    """Always named for `semantics`; of a duplicate where it is known."""
    sent_ats: tuple[datetime, ...] = ()
    """When Beat sent it, by its own clock, earliest first."""
    late_seconds: float | None = None
    """How long after the occurrence Beat sent it first; None: it did not."""

    @property
    def is_evidence(self) -> bool:
        """Whether it speaks for handing over: Beat has sent it, and it is clean."""
        return self.is_clean and bool(self.sent_ats)

    @property
    def is_clean(self) -> bool:
        """Whether nothing speaks against handing over: a match, or a difference that is known and Beat's own."""
        return self.verdict is Verdict.MATCH or (self.cause is not None and self.cause not in _OURS)

    @property
    def sentence(self) -> str:
        """Why, for people; empty where there is nothing to explain or nothing known."""
        return "" if self.cause is None else self.cause.sentence


_OURS = frozenset({Circumstance.NO_SHADOW, Circumstance.BOTH_FIRERS})
"""What says nothing for the tick: it was not there, or it fired beside Beat."""
