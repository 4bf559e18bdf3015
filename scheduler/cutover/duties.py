"""What hand-overs need again and again, as duties of the reaper. Any number of processes may do them at once."""

from __future__ import annotations

from django.db import connections

from pg_queue.api import Duty
from scheduler.cutover.arrival import BATCH, complete_arrivals, plant_again, remove_unneeded_canaries
from scheduler.cutover.returning import complete_returns
from scheduler.cutover.watch import roll_back_misbehaving
from scheduler.settings import scheduler_settings
from scheduler.statements import statements

_FORGOTTEN = 1000


def cutover_duties() -> list[Duty]:
    """The duties. What waits for Beat is looked at often: meanwhile nobody fires the schedule."""
    return [
        Duty(name="complete_hand_overs", every_seconds=0.5, run=complete_arrivals, batch=BATCH),
        Duty(name="complete_roll_backs", every_seconds=1, run=complete_returns, batch=BATCH),
        Duty(name="announce_hand_overs", every_seconds=3, run=plant_again),
        Duty(name="remove_canaries", every_seconds=3, run=remove_unneeded_canaries),
        Duty(name="roll_back_misbehaving", every_seconds=5, run=roll_back_misbehaving),
        Duty(name="forget_hand_overs", every_seconds=3600, run=forget_handovers, batch=_FORGOTTEN),
    ]


def forget_handovers() -> int:
    """Forget one batch of hand-overs past `SCHEDULER["LEDGER_RETENTION_DAYS"]`; how many."""
    parameters = {"days": scheduler_settings().ledger_retention_days, "limit": _FORGOTTEN}
    with connections[scheduler_settings().database].cursor() as cursor:
        cursor.execute(statements("cutover")["forget"], parameters)
        return int(cursor.rowcount)
