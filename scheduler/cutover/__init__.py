"""Schedules are handed over from Celery Beat to PG, and back, with nothing missed and nothing fired twice.

The unit is the occurrence: whoever fires it holds its key in the ledger. A hand-over is one row, `Handover`, that waits
until it is known where the one firer ends and the other begins.

**To PG** (`promote`). One transaction makes PG the firer, puts the schedule on hold, so that no tick sees it, and
disables Beat's row. Beat hears of it within seconds, and what it sends until then is its own. How that end is found
(`beats`):

- `canary`: one live Beat, which observes. The same transaction plants an entry that is due (`scheduler.beat.canary`).
  Beat sends it only when it has loaded the change, and the journal records in Beat's order: what is recorded before the
  canary is all that Beat has sent. Several schedules share one.
- `claim`: every live Beat claims before it sends. The claims of a schedule that is PG's are refused from the commit on,
  so the hand-over is done with it; unless a claim is open, whose end is then waited for.
- `stopped`: somebody says that no Beat runs.

Then (`arrival`) the schedule goes on with the first occurrence that Beat has not sent, and every one since the change
is made up for. What Beat may have sent and nobody recorded, because it was killed or could not write, is not guessed:
it is taken, and listed as unknown. Several Beats of which one only observes are refused: they fire everything twice.

**To Beat** (`roll_back`). Beat's row is enabled, with a last run that makes it send nothing before an instant T beyond
Beat's slowest reload. PG fires what occurs up to T (`beat_from`), and the schedule is Beat's when that is done. One
whose hand-over to PG still waits goes back at once, as if nothing had been: PG has fired nothing of it.

| what happens meanwhile | what becomes of it |
|---|---|
| nobody sends the canary | it waits, is planted anew, and says so; roll it back, or go on with `stopped` |
| Beat is killed | the one that is started next sends the canary; what the first may have sent is unknown |
| a leader dies, the database restarts | the rows say how far it has come; any process goes on with it |
| edit, pause, resume | PG's row is the primary one, and Beat's follows; who fires what does not change |
| the schedule is deleted | the hand-over is cancelled |
| the other direction is asked for | a waiting hand-over to PG is taken back; one to Beat is waited for |

Rooms: `evidence` (may it be handed over?), `choice` (which schedules?), `beats`, `promotion`, `arrival`, `returning`,
`ramp`, `finish`, `watch` (what was handed over and does badly goes back by itself), `duties`, `progress`, `status`.
"""

from __future__ import annotations

from scheduler.cutover.answers import Answer, AnswerStatus
from scheduler.cutover.arrival import complete_arrivals
from scheduler.cutover.choice import Choice, bucket_of, chosen
from scheduler.cutover.evidence import Evidence
from scheduler.cutover.finish import Finish, finish
from scheduler.cutover.progress import UnderWay, under_way
from scheduler.cutover.promotion import plan, promote
from scheduler.cutover.ramp import ramp
from scheduler.cutover.returning import complete_returns, roll_back
from scheduler.cutover.status import CutoverStatus, status

__all__ = [
    "Answer",
    "AnswerStatus",
    "Choice",
    "CutoverStatus",
    "Evidence",
    "Finish",
    "UnderWay",
    "bucket_of",
    "chosen",
    "complete_arrivals",
    "complete_returns",
    "finish",
    "plan",
    "promote",
    "ramp",
    "roll_back",
    "status",
    "under_way",
]
