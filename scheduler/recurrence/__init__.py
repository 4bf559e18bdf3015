"""When schedules occur: the pure evaluator. Everything else in the scheduler asks it.

No Django, no I/O but the time zone database. In here:

- `cadence`: the questions: next occurrences, the neighbours of an instant, validation;
- `kinds`: the contract that each kind of schedule fulfils, and the kinds;
- `fields`, `unix_grammar`, `celery_grammar`: crontab texts; the only importer of croniter;
- `walltime`: what a crontab names on the wall clock;
- `zones`, `occurrences`: time lines, and the wall clock placed on them;
- `intervals`: ISO 8601 durations;
- `clocked`: one instant;
- `solar`: the sun at a place; the only importer of ephem, which is loaded when it is needed;
- `instants`: the instants that can be asked about, and their whole seconds;
- `description`: a schedule in words.

The rules are in `docs/reference/cron.md`.
"""

from scheduler.recurrence.cadence import (
    Cadence,
    Neighbours,
    count_between,
    evaluate,
    next_occurrences,
    normalise,
    occurrences_between,
    validate,
)
from scheduler.recurrence.description import describe
from scheduler.recurrence.intervals import interval_seconds, period

__all__ = [
    "Cadence",
    "Neighbours",
    "count_between",
    "describe",
    "evaluate",
    "interval_seconds",
    "next_occurrences",
    "normalise",
    "occurrences_between",
    "period",
    "validate",
]
