"""The reconciliation: differences between schedules and their rows in Celery Beat, found and put right.

It finds what no signal told of (`.update()`, bulk and raw SQL), and what a mirror write lost. One statement compares
fingerprints (`scheduler.beat.links`): whatever agrees as it did before costs nothing more. What may differ is compared
in meaning, and repaired in a transaction of its own, by the same functions that follow a save: one that cannot be
repaired stops no other. The firer's row is the one that counts (invariant 7).

Each difference is a `MirrorDrift`: open until it is repaired. Left alone are schedules that are being handed over, and
rows of Beat's that nobody imported. A mirror is only deleted when Beat's row has been missed for a while.

Safe in parallel: a repair holds Beat's row and then ours, and looks again at what it holds.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from time import monotonic, sleep
from typing import Any
from uuid import UUID

from django.db import connections, transaction
from django.db.models.functions import Now
from prometheus_client import Counter

from pg_queue.api import METRICS, Duty
from scheduler import beat, following, ownership
from scheduler.actor import acting_as
from scheduler.beat import extras, links, mirror, pairs, rows
from scheduler.domain import Drift, Firer, Hold
from scheduler.errors import InvalidInput, ScheduleNotFound
from scheduler.models import MirrorDrift, PgPeriodicSchedule
from scheduler.querysets import MirrorDriftQuerySet
from scheduler.settings import scheduler_settings

logger = logging.getLogger(__name__)

DRIFT = Counter(
    "downbeat_mirror_drift", "Differences between schedules and Celery Beat's rows.", ["what"], registry=METRICS
)
for _what in Drift:
    DRIFT.labels(what=_what.value)  # there from the start, at 0: the first one is an increase too

_CHUNK = 200
_ROUND_SECONDS = 3.0
"""How long the duty may keep the reaper from its other duties."""
_AGAIN_SECONDS = 5.0
"""When it goes on with what it had no time for: after a bulk change there may be thousands to repair."""
_NEVER_AT_ONCE = 2**31
"""As a batch: what could not be repaired is not tried again in the same round."""


class Outcome(StrEnum):
    """What became of a difference."""

    REPAIRED = "repaired"
    FOUND = "found"
    """A dry run: it would be repaired."""
    WAITING = "waiting"
    """Beat's row was missed for the first time: the mirror goes if it is still missing a little later."""
    FAILED = "failed"
    """It could not be repaired, or not all of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One difference between a schedule and its row in Beat."""

    schedule_id: UUID
    beat_name: str
    organization_id: str
    """Empty: it is not known."""
    what: Drift
    details: dict[str, Any] = field(default_factory=dict)
    """By column: what the row said that is put right, and what it should say."""
    outcome: Outcome = Outcome.FAILED
    error: str = ""
    """Why it could not be repaired."""
    gone_since: datetime | None = None
    """Of an orphan: when Beat's row was missed first; None: only now."""


def reconcile(schedule_ids: Sequence[UUID] | None = None, *, is_dry_run: bool = False) -> Iterator[Difference]:
    """Find and repair what differs, among these schedules or all; each is committed when it is yielded.

    Where Beat's row is gone, waits `ORPHAN_GRACE_SECONDS` at the end, once, and looks again. A dry run repairs each,
    reports it, and takes it back.

    Raises:
        BeatUnavailable: django-celery-beat is not installed.
        ScheduleNotFound: one of `schedule_ids` is known on neither side.
    """
    beat.require()
    for schedule_id in schedule_ids or ():
        _refuse_unknown(schedule_id)
    waiting = []
    for found in _Sweep(is_dry_run=is_dry_run).run(pairs.find_suspects(schedule_ids)):
        if found.outcome == Outcome.WAITING:
            waiting.append(found.schedule_id)
        else:
            yield found
    if waiting:
        sleep(pairs.ORPHAN_GRACE_SECONDS)
        yield from _Sweep(is_dry_run=is_dry_run).run(waiting)


def reconciliation_duties() -> list[Duty]:
    """The duty of the reaper; none without django-celery-beat. Any number of processes may do it at once."""
    if not beat.is_installed():
        return []
    every_seconds = scheduler_settings().reconcile_seconds
    again_seconds = min(every_seconds, _AGAIN_SECONDS)
    return [Duty(name="reconcile", every_seconds=again_seconds, run=_Rounds(every_seconds), batch=_NEVER_AT_ONCE)]


def open_drift() -> MirrorDriftQuerySet:
    """The differences from Beat's rows that are not repaired, the latest first."""
    return MirrorDrift.objects.using(_alias()).unrepaired()


class _Rounds:
    """The rounds of one reaper. Of several processes one at a time looks for what differs."""

    def __init__(self, every_seconds: float) -> None:
        self._every_seconds, self._due_at = every_seconds, 0.0

    def __call__(self) -> int:
        """Find and repair what differs, if that is due, for at most some seconds; how many differences were seen."""
        began_at = monotonic()
        if began_at < self._due_at:
            return 0
        sweep = _Sweep(until=began_at + _ROUND_SECONDS)
        with acting_as("a duty of the reaper"):
            seen = sum(1 for _ in sweep.run(pairs.find_suspects(is_alone=True)))
        is_cut_short = sweep.is_over() and sweep.settled > 0
        self._due_at = began_at if is_cut_short else began_at + self._every_seconds
        return seen


def _refuse_unknown(schedule_id: UUID) -> None:
    is_here = PgPeriodicSchedule.objects.using(_alias()).filter(pk=schedule_id).exists()
    if not is_here and links.of_schedule(schedule_id) is None and not rows.exists(str(schedule_id)):
        raise ScheduleNotFound(schedule_id)


@dataclass(slots=True, kw_only=True)
class _Sweep:
    """One look at schedules, in chunks."""

    is_dry_run: bool = False
    until: float | None = None
    """By this process's monotonic clock, when it ends; None: when all have been looked at."""
    settled: int = 0
    """How many agree by now that were not known to."""

    def run(self, schedule_ids: Sequence[UUID]) -> Iterator[Difference]:
        for start in range(0, len(schedule_ids), _CHUNK):
            for suspected in self._compare(schedule_ids[start : start + _CHUNK]):
                if (found := self._settle(suspected)) is not None:
                    yield found
                if self.is_over():
                    return
            if self.is_over():
                return

    def is_over(self) -> bool:
        return self.until is not None and monotonic() >= self.until

    def _compare(self, schedule_ids: Sequence[UUID]) -> list[Difference]:
        """What is different of them at first sight; that the others agree is stored."""
        found = pairs.read(schedule_ids)
        judged = [_judge(found[one]) if one in found else _missing(one) for one in schedule_ids]
        agreed = [one for one in judged if isinstance(one, links.Agreed)]
        if agreed and not self.is_dry_run:
            with transaction.atomic(using=_alias()):
                links.agree(agreed)
                _close([one.schedule_id for one in agreed])
            self.settled += len(agreed)
        return [one for one in judged if isinstance(one, Difference)]

    def _settle(self, suspected: Difference) -> Difference | None:
        """Repair it in a transaction of its own; None: there was nothing to repair after all."""
        try:
            with mirror.bounded(), transaction.atomic(using=_alias()):
                found = self._repair(suspected)
                is_new = found is not None and _note(found)
                if self.is_dry_run:
                    transaction.set_rollback(True, using=_alias())
        except Exception as error:  # one that cannot be repaired stops no other: whatever it is, it is reported
            if not connections[_alias()].is_usable():
                raise
            found, is_new = self._fail(suspected, error)
        if found is None or self.is_dry_run:
            return found and replace(found, outcome=Outcome.FAILED if found.error else Outcome.FOUND)
        if is_new:
            DRIFT.labels(what=found.what.value).inc()
        if found.outcome == Outcome.REPAIRED:
            self.settled += 1
            logger.info("reconciliation.repaired schedule_id=%s what=%s", found.schedule_id, found.what.value)
        return found

    def _repair(self, suspected: Difference) -> Difference | None:
        if suspected.what == Drift.BEAT_ROW:
            return _keep_disabled(suspected)
        if suspected.what == Drift.ORPHANED:
            if suspected.gone_since is None and not self.is_dry_run:
                return replace(suspected, outcome=Outcome.WAITING)
            return _abandon(suspected)
        return _follow(suspected)

    def _fail(self, suspected: Difference, error: Exception) -> tuple[Difference, bool]:
        is_told = isinstance(error, InvalidInput)
        details = ("reconciliation.failed", suspected.schedule_id, suspected.what.value, error)
        logger.warning("%s schedule_id=%s what=%s error=%s", *details, exc_info=not is_told)
        said = str(error) if is_told else f"{type(error).__name__}: {error}"
        failed = replace(suspected, outcome=Outcome.FAILED, error=said)
        try:
            with mirror.bounded():
                return failed, not self.is_dry_run and _note(failed)
        except Exception:  # the failure of a failure: the log has both
            logger.exception("reconciliation.failure_not_recorded schedule_id=%s", suspected.schedule_id)
            return failed, False


def _judge(pair: pairs.Pair) -> Difference | links.Agreed:
    """What is to be repaired of a schedule at first sight; where it cannot even be read, repairing it says why."""
    is_pgs = pair.firer == Firer.PG
    suspected = Difference(
        schedule_id=pair.schedule_id,
        beat_name=pair.beat_name,
        organization_id=pair.organization_id,
        what=Drift.BEAT_ROW if is_pgs else Drift.STALE,
        gone_since=pair.gone_since,
    )
    if pair.beats is None and not is_pgs:
        if pair.renamed_to is None:
            return replace(suspected, what=Drift.ORPHANED)
        return replace(suspected, details={"beat_name": [pair.beat_name, pair.renamed_to]})
    try:
        row, task = pair.row(), pair.task()
        details = pairs.compare_disabled(row, task) if task is None or is_pgs else pairs.compare(row, task)
    except Exception:  # noqa: BLE001  a row that was written by other means may hold anything
        return suspected
    if details or (pair.has_failed_write and not is_pgs):
        return replace(suspected, details=details)
    return links.Agreed(pair.schedule_id, {} if task is None else extras.extras_of(task), pair.fingerprint)


def _missing(schedule_id: UUID) -> Difference:
    """What is to be repaired of one that has no row here."""
    link = links.of_schedule(schedule_id)
    return Difference(
        schedule_id=schedule_id,
        beat_name=str(schedule_id) if link is None else link.beat_name,
        organization_id="" if link is None else link.organization_id,
        what=Drift.MISSING,
    )


def _follow(suspected: Difference) -> Difference | None:
    try:
        followed = following.follow(suspected.schedule_id)
    except ScheduleNotFound:
        if suspected.what != Drift.MISSING:
            raise
        _close([suspected.schedule_id])  # it is gone on both sides
        return None
    if followed is None or _is_handed_over(followed.row):
        return None
    row = followed.row
    found = replace(suspected, beat_name=row.beat_name, organization_id=row.organization_id)
    if followed.unreadable is not None:
        return replace(found, details=followed.details or found.details, error=str(followed.unreadable))
    return _repaired(found, followed.details)


def _abandon(suspected: Difference) -> Difference | None:
    row = following.abandon(suspected.schedule_id, gone_since=suspected.gone_since)
    if row is None or _is_handed_over(row):
        return None
    return _repaired(suspected, {"mirror": [row.pipeline_name, None]})


def _keep_disabled(suspected: Difference) -> Difference | None:
    row = ownership.hold(suspected.schedule_id).row
    if row.firer != Firer.PG or _is_handed_over(row):
        return None
    details = pairs.compare_disabled(row, rows.lock(row.beat_name))
    rows.keep_disabled(row)
    task = rows.lock(row.beat_name)
    links.agree([links.Agreed(row.pipeline_id, {} if task is None else extras.extras_of(task))])
    return _repaired(suspected, details)


def _repaired(suspected: Difference, details: dict[str, Any]) -> Difference | None:
    """It is as it should be; no details: it was so already."""
    if details:
        return replace(suspected, outcome=Outcome.REPAIRED, details=details)
    _close([suspected.schedule_id])
    return None


def _is_handed_over(row: PgPeriodicSchedule) -> bool:
    """Whether the hand-over of a schedule has begun meanwhile; then what was repaired is taken back."""
    is_handed_over = row.hold == Hold.HANDOVER or row.beat_from is not None
    if is_handed_over:
        transaction.set_rollback(True, using=_alias())
    return is_handed_over


def _note(found: Difference) -> bool:
    """Put it on the list, or bring it up to date there; whether it is new. Joins the caller's transaction."""
    is_repaired = found.outcome == Outcome.REPAIRED
    told = {
        "beat_name": found.beat_name,
        "organization_id": found.organization_id,
        "details": found.details,
        "error": found.error,
        "repaired_at": Now() if is_repaired else None,
    }
    listed = MirrorDrift.objects.using(_alias())
    _, is_new = listed.update_or_create(
        schedule_id=found.schedule_id, what=found.what.value, repaired_at=None, defaults=told
    )
    if is_repaired:
        _close([found.schedule_id])
    return is_new


def _close(schedule_ids: Sequence[UUID]) -> None:
    """There is no difference of these any more. Joins the caller's transaction."""
    listed = MirrorDrift.objects.using(_alias()).unrepaired().filter(schedule_id__in=schedule_ids)
    listed.update(repaired_at=Now(), error="")


def _alias() -> str:
    return scheduler_settings().database
