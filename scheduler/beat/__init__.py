"""Everything that knows django-celery-beat (dcb): its rows, their mirror, the trigger that guards them.

dcb is optional. Its modules are imported inside functions, after `is_installed` or `require` has said yes; without it
schedules are fired by PG only.

- `expressions`: which of our expressions Celery's crontab can hold, and how it is spelt there;
- `rows`: Beat's `PeriodicTask` of a schedule;
- `mirror`: the best-effort write of our row while Beat is the firer;
- `trigger`: the database's own guard of Beat's rows.

The facts about Beat that this rests on are in `docs/explanation/beat.md`.
"""

from __future__ import annotations

from django.apps import apps

from scheduler.errors import BeatUnavailable


def is_installed() -> bool:
    """Whether django-celery-beat is among the project's INSTALLED_APPS."""
    return apps.is_installed("django_celery_beat")


def require() -> None:
    """Raises `BeatUnavailable` where django-celery-beat is not installed."""
    if not is_installed():
        raise BeatUnavailable(
            "firer: expected 'pg', because django-celery-beat is not installed here, got: 'beat'; "
            "install it and add 'django_celery_beat' to INSTALLED_APPS, or choose firer 'pg'"
        )
