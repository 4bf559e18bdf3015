"""The scheduler's words as types. No Django, no I/O."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from enum import StrEnum
from hashlib import md5
from uuid import UUID

REPORT_TO = "schedule"
"""The queue keeps the outcomes of our messages under this name until the ledger takes them."""


class ScheduleKind(StrEnum):
    """What an expression is written in."""

    CRONTAB = "crontab"
    """Five fields or a macro; see `scheduler.recurrence`."""
    INTERVAL = "interval"
    """An ISO 8601 duration such as `PT5S`: elapsed time, indifferent to clock changes."""
    CLOCKED = "clocked"
    """One ISO 8601 instant such as `2026-12-01T10:00:00Z`: it occurs once."""
    SOLAR = "solar"
    """What the sun does at a place, such as `sunset 52.52 13.405`."""


class CronDialect(StrEnum):
    """Whose grammar and day rule a crontab expression follows."""

    UNIX = "unix"
    """ISC cron: day-of-month or day-of-week when both are restricted; 0 and 7 are Sunday."""
    CELERY = "celery"
    """Celery's `crontab`: both days must match; wrap-around ranges; 7 is refused."""


class Firer(StrEnum):
    """Who turns a schedule's occurrences into work."""

    BEAT = "beat"
    PG = "pg"


class CatchUp(StrEnum):
    """What becomes of occurrences that were missed, within the schedule's catch-up window."""

    NONE = "none"
    """They are not made up for: only an occurrence that is on time is fired."""
    LATEST = "latest"
    """The latest of them is fired in the stead of all."""
    ALL = "all"
    """Each of them is fired, the oldest first."""


class Overlap(StrEnum):
    """What becomes of an occurrence while the run before it has not ended."""

    ALLOW = "allow"
    """It is fired all the same."""
    SKIP = "skip"
    """It is not fired, and the ledger says `skipped`."""
    QUEUE = "queue"
    """It is fired when that run has ended; of several that wait so, the catch-up policy decides."""


class Hold(StrEnum):
    """Why the tick leaves a schedule that is due alone for now."""

    OVERLAP = "overlap"
    """The run before has not ended, and the overlap policy says `queue`."""
    HANDOVER = "handover"
    """It is being handed over: what Beat has sent of it is not known yet, or what is due next is Beat's again."""


class BeatMode(StrEnum):
    """What a Celery Beat process does besides sending."""

    OBSERVE = "observe"
    """It records each send, and sends whatever happens."""
    GATE = "gate"
    """It claims the occurrence in the ledger before it sends, and sends nothing that it cannot claim."""


class SendState(StrEnum):
    """How far a send of Celery Beat has come."""

    CLAIMED = "claimed"
    """Its occurrence is claimed, and it is not known whether it was published: Beat may have died in between."""
    SENT = "sent"
    REFUSED = "refused"
    """Another firer had the occurrence: it was not published."""
    FAILED = "failed"
    """The broker refused it: it was not published. In gate mode Beat tries again; stock Beat goes on to the next."""


class CatchKind(StrEnum):
    """What the guard of Beat's rows undid of a write to the row of a schedule that PG fires."""

    ENABLED = "enabled"
    """It would have enabled the row: both would have fired the schedule."""
    RENAMED = "renamed"
    """It would have renamed the row, which then would not have been known as PG's."""
    WRITE_BACK = "write_back"
    """A running Beat wrote back a stale copy of the row, which was still enabled in it."""


class BeatSource(StrEnum):
    """Where a schedule that Celery Beat has a row for came from."""

    HERE = "here"
    """It was made here, and its row in Beat after it."""
    PERIODIC_TASK = "periodic_task"
    """Imported from a row of Beat's."""
    APP_CONF = "app_conf"
    """The same, of a row that Beat writes again at each start, from `beat_schedule` of the Celery app."""


class HandoverMethod(StrEnum):
    """How a hand-over finds out what Celery Beat has sent."""

    CANARY = "canary"
    """Stock Beat: it goes on by what it has loaded until it sends an entry that was planted with the change."""
    CLAIM = "claim"
    """Every Beat claims before it sends: from the change on it is refused."""
    STOPPED = "stopped"
    """Somebody said that no Beat runs."""
    RETURN = "return"
    """To Beat: from an instant on that it has loaded the change by."""


class HandoverState(StrEnum):
    """How far a hand-over has come."""

    WAITING = "waiting"
    DONE = "done"
    CANCELLED = "cancelled"
    """It was taken back before it was done, or its schedule was deleted meanwhile."""


class Drift(StrEnum):
    """How a schedule's row here and its row in Celery Beat have come to differ."""

    MISSING = "missing"
    """Beat fires it, and there is no mirror."""
    STALE = "stale"
    """The mirror says otherwise than Beat's row."""
    ORPHANED = "orphaned"
    """The mirror of a row that Beat does not have any more."""
    BEAT_ROW = "beat_row"
    """PG fires it, and Beat's disabled row is missing, enabled or says otherwise."""


class ScheduleState(StrEnum):
    """What holds for a schedule right now; one word for lists and filters."""

    ACTIVE = "active"
    """It has an occurrence ahead (or due) that nothing holds back."""
    PAUSED = "paused"
    """A person has paused it."""
    QUARANTINED = "quarantined"
    """The tick cannot evaluate it; its error says why."""
    ENDED = "ended"
    """No occurrence is left, or its end has passed."""


class RunState(StrEnum):
    """What became of an occurrence. The first five are a fired run's life; the rest are reasons for not firing."""

    FIRED = "fired"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    RELAYED = "relayed"
    """A Celery broker has taken it: its end is known to Celery's own workers and result backend, and not here."""

    COALESCED = "coalesced"
    """Missed, and stood in for by the latest missed occurrence, which was fired."""
    SKIPPED = "skipped"
    """The previous run was still going and the schedule's overlap policy says skip."""
    EXPIRED = "expired"
    """Found due only after its catch-up window had ended, although a leader was ticking; or due and not fired yet when
    its schedule was paused, edited or deleted, or in quarantine: its error then says which."""
    PAUSED = "paused"
    """The schedule was paused at that instant."""
    OTHER_FIRER = "other_firer"
    """Celery Beat owned it."""
    NO_LEADER = "no_leader"
    """Its catch-up window ended while no scheduler process held the lead."""

    @property
    def is_fired(self) -> bool:
        """Whether a message was enqueued for it."""
        return self in FIRED_STATES


FIRED_STATES = frozenset({RunState.FIRED, RunState.RUNNING, RunState.SUCCEEDED, RunState.FAILED, RunState.RELAYED})
RUN_ENDS: Mapping[str, RunState] = {
    "succeeded": RunState.SUCCEEDED,
    "failed": RunState.FAILED,
    "cancelled": RunState.FAILED,
}
"""What a run has come to, by the last state of its message in the queue."""
MOST_COUNTED = 2**62
"""A stretch of more occurrences than that is one of unknown length: the ledger's column is a bigint."""


class RunOrigin(StrEnum):
    """Where a run came from. Only `schedule` runs are bound by the one-per-occurrence key."""

    SCHEDULE = "schedule"
    MANUAL = "manual"
    SHADOW = "shadow"


def jitter_of(schedule_id: UUID, jitter_seconds: int) -> timedelta:
    """How much later than its occurrence a schedule's run may begin: the same for all its occurrences, in milliseconds.

    At least 0, less than `jitter_seconds`; spread evenly over schedules. The tick computes the same in SQL.
    """
    share = int(md5(str(schedule_id).encode(), usedforsecurity=False).hexdigest()[:8], 16)
    return timedelta(milliseconds=share * jitter_seconds * 1000 >> 32)
