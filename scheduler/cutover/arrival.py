"""The end of a hand-over to PG: where Beat has stopped, and so where PG begins."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import Any

from django.db import connections, transaction

from scheduler import changes, clock, grid, transitions
from scheduler.beat import canary, mirror
from scheduler.cutover import position
from scheduler.domain import CatchUp, Firer, HandoverState, Hold
from scheduler.errors import InvalidInput
from scheduler.models import Handover, PgPeriodicSchedule, ScheduleRun
from scheduler.models.ledger import keep
from scheduler.querysets import BEAT_ALIVE
from scheduler.settings import scheduler_settings
from scheduler.statements import statements

logger = logging.getLogger(__name__)

BATCH = 100
"""Most hand-overs that one call completes."""
PATIENCE = timedelta(seconds=3)
"""How long a canary may be on its way before it is planted anew."""
RECENT = timedelta(seconds=60)
"""What Beat had owed for longer when the hand-over began is up to the schedule's catch-up policy."""


def complete_arrivals() -> int:
    """Complete one batch of hand-overs to PG of which it is known what Beat has sent; how many.

    A transaction of its own for each, which waits for nothing for long. One that fails stops no other. Safe in
    parallel.
    """
    parameters = {"id": None, "limit": BATCH, "alive_seconds": BEAT_ALIVE.total_seconds()}
    return complete_each((found[0] for found in _all("arrived", parameters)), _complete)


def complete_each(ids: Iterable[int], complete: Callable[[int], int]) -> int:
    """Complete each hand-over, and go on where one fails: it is tried again; how many were completed."""
    done = 0
    for handover_id in ids:
        try:
            with transaction.atomic(using=_alias()), mirror.bounded():
                done += complete(handover_id)
        except Exception as error:
            if not connections[_alias()].is_usable():
                raise
            logger.warning("cutover.not_completed handover=%s error=%s", handover_id, error, exc_info=error)
    return done


def has_arrived(handover: Handover) -> bool:
    """Whether it is known what Beat has sent of the schedule. Joins the caller's transaction."""
    parameters = {"id": handover.pk, "limit": 1, "alive_seconds": BEAT_ALIVE.total_seconds()}
    return bool(_all("arrived", parameters))


def arrive(row: PgPeriodicSchedule, handover: Handover, now: datetime) -> None:
    """Let PG go on where Beat has stopped. The row is held, PG fires it, and it waits for this.

    A row that cannot be evaluated is set aside, as the tick would.
    """
    row.hold = None if row.hold == Hold.HANDOVER else row.hold
    try:
        handover.outcome = _place(row, handover, now)
    except InvalidInput as error:
        row.quarantined_at, row.quarantine_error = now, str(error)
        handover.outcome = {"why": f"it cannot be evaluated: {error}"}
    columns = ("hold", "last_run_at", "run_count", "next_run_at", "make_up_until", "quarantined_at", "quarantine_error")
    row.save(using=_alias(), update_fields=columns)
    end(handover, HandoverState.DONE, now)
    changes.wake_leader(row.pk)


def _place(row: PgPeriodicSchedule, handover: Handover, now: datetime) -> dict[str, Any]:
    """Set where the row stands; what is to be told of it. Each occurrence since the change is made up for."""
    found = position.find(row, handover)
    row.last_run_at = max(filter(None, (row.last_run_at, found.last)), default=None)
    row.run_count += found.sends
    row.next_run_at, row.make_up_until = found.first, now
    left_out = _leave_owed(row, handover.requested_at)
    keep([left_out] if left_out else [], using=_alias())
    return {
        "sends": found.sends,
        "first": row.next_run_at and row.next_run_at.isoformat(),
        "unknown": [occurrence.isoformat() for occurrence in found.unknown],
    }


def _leave_owed(row: PgPeriodicSchedule, until: datetime) -> ScheduleRun | None:
    """What Beat had owed for long when the change was made is up to the catch-up policy: all, the latest or none.

    The row begins with what is left; returned is the stretch that is left out, as a ledger row.
    """
    first = row.next_run_at
    if first is None or first >= until - RECENT or row.catch_up == CatchUp.ALL or not row.enabled:
        return None
    owed = grid.unfired(row, until)
    assert owed is not None
    is_latest = row.catch_up == CatchUp.LATEST
    if is_latest and owed.latest == first:
        return None
    begins = owed.latest if is_latest else grid.next_run_at(row, until)
    left_out = transitions.leave_to_policy(row, begins, until)
    row.next_run_at = begins
    return left_out


def end(handover: Handover, state: HandoverState, now: datetime, why: str = "") -> None:
    """Store that it is over."""
    handover.state, handover.ended_at = state.value, now
    if why:
        handover.outcome = {**handover.outcome, "why": why}
    handover.save(using=_alias())


def hold_waiting(handover_id: int) -> tuple[Handover | None, PgPeriodicSchedule | None]:
    """A hand-over that waits, and its schedule, both held: the schedule first, as every change of one holds it.

    None: it does not wait any more; there is no such schedule. Joins the caller's transaction.
    """
    found = Handover.objects.using(_alias()).filter(pk=handover_id).first()
    if found is None:
        return None, None
    row = PgPeriodicSchedule.objects.using(_alias()).select_for_update().filter(pk=found.schedule_id).first()
    return Handover.objects.using(_alias()).waiting().select_for_update().filter(pk=handover_id).first(), row


def _complete(handover_id: int) -> int:
    handover, row = hold_waiting(handover_id)
    if handover is None:
        return 0
    now = clock.now(_alias())
    if row is None or row.firer != Firer.PG:
        end(handover, HandoverState.CANCELLED, now, "the schedule was deleted meanwhile")
    else:
        arrive(row, handover, now)
    return 1


def plant_again() -> int:
    """Plant the canaries anew that nobody has sent for some seconds, and have Beat see them; how many.

    Beat can miss an announcement that is made while it starts, and one that is killed may have sent without a record.
    """
    with transaction.atomic(using=_alias()):
        parameters = {"patience_seconds": PATIENCE.total_seconds(), "alive_seconds": BEAT_ALIVE.total_seconds()}
        names = [found[0] for found in _all("unsent_canaries", parameters)]
        for name in names:
            canary.plant(name)
    return len(names)


def remove_unneeded_canaries() -> int:
    """Remove the canaries for which no hand-over waits; how many there were."""
    with transaction.atomic(using=_alias()):
        there = canary.names()  # first: one that is planted between the two reads is waited for
        waiting = Handover.objects.using(_alias()).waiting().exclude(canary="").values_list("canary", flat=True)
        return canary.remove(set(there) - set(waiting))


def _all(name: str, parameters: dict[str, Any]) -> list[tuple[Any, ...]]:
    with connections[_alias()].cursor() as cursor:
        cursor.execute(statements("cutover")[name], parameters)
        return list(cursor.fetchall())


def _alias() -> str:
    return scheduler_settings().database
