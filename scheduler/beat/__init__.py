"""Everything that knows Celery Beat and django-celery-beat (dcb): its rows, their mirror, and what it sends.

dcb is optional. Its modules are imported inside functions, after `is_installed` or `require` has said yes; without it
schedules are fired by PG only.

- `expressions`: which of our expressions Celery's crontab can hold, and how it is spelt there;
- `names`, `links`: which row is whose, and how both were last found to agree;
- `pairs`: both read together, and what of them differs;
- `rows`: Beat's `PeriodicTask` of a schedule, written;
- `reading`: what that row says of the schedule;
- `mirror`: the best-effort write of our row while Beat is the firer;
- `trigger`: the database's own guard of Beat's rows;
- `evaluation`: when Beat itself would send, by Celery's own evaluator;
- `entries`: what `beat_schedule` of the Celery app says, written as Beat would;
- `extras`: what Beat's row holds and a schedule here cannot;
- `certificate`, `differences`: whether we occur then, too, and the rules by which we do not;
- `sends`, `occurrences`: a send, and which occurrence it was;
- `journal`, `sessions`: sends and claims written down, on sessions that wait for nothing for long;
- `observer`, `recorder`: what any Beat process sends, seen in it and recorded from a thread of its own;
- `gate`, `stops`: the scheduler class that claims before it sends.

What a user needs to know of it is in `docs/howto/schedules.md` and `docs/howto/migrate-from-beat.md`; why it is so, in
`docs/explanation/beat.md`.
"""

from __future__ import annotations

from django.apps import apps
from django.db import router

from scheduler.dialect import is_sqlite
from scheduler.errors import BeatUnavailable
from scheduler.settings import scheduler_settings

_LABEL = "django_celery_beat"


def is_installed() -> bool:
    """Whether django-celery-beat is among the project's INSTALLED_APPS, with its tables in the scheduler's database.

    Never where that is SQLite: nothing of Beat's is kept, watched or taken over there.
    """
    return not is_sqlite() and apps.is_installed(_LABEL) and router.allow_migrate(scheduler_settings().database, _LABEL)


def refuse_sqlite(what: str) -> None:
    """Raises `BeatUnavailable` where the schedules are kept in SQLite; `what` names what needs PostgreSQL."""
    if is_sqlite():
        alias = scheduler_settings().database
        raise BeatUnavailable(
            f"{what}: expected DATABASES[{alias!r}], which SCHEDULER['DATABASE'] names, to be PostgreSQL, got: SQLite, "
            "beside which nothing of Celery Beat is mirrored, compared or taken over; let PG fire the schedules "
            "(firer 'pg'), or keep them in PostgreSQL"
        )


def require() -> None:
    """Raises `BeatUnavailable` where `is_installed` says no."""
    refuse_sqlite("firer 'beat'")
    if not is_installed():
        raise BeatUnavailable(
            "firer: expected 'pg', because django-celery-beat is not installed in this database, got: 'beat'; "
            "install it, add 'django_celery_beat' to INSTALLED_APPS and migrate, or choose firer 'pg'"
        )
