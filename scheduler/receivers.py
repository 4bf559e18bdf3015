"""Receivers of Django's signals: mirrors follow rows of Beat's that are saved or deleted elsewhere, at once.

What sends no signal (`.update()`, bulk and raw SQL) is found by the reconciliation. Left out are saves and deletions
with dcb's `no_changes` set: they are this app's own, and a running Beat's, which writes its counts back by the hundred.
"""

from __future__ import annotations

from typing import Any

from django.apps import apps
from django.db.models.signals import post_delete, post_save

from scheduler import following
from scheduler.dialect import is_sqlite
from scheduler.settings import scheduler_settings

_PERIODIC_TASK = "django_celery_beat.PeriodicTask"


def connect() -> None:
    """Connect them where django-celery-beat is installed; it is not imported before it loads its models itself."""
    if not apps.is_installed("django_celery_beat"):
        return
    post_save.connect(_follow_saved, sender=_PERIODIC_TASK, dispatch_uid="scheduler.follow_saved")
    post_delete.connect(_follow_deleted, sender=_PERIODIC_TASK, dispatch_uid="scheduler.follow_deleted")


def _follow_saved(*, instance: Any, using: str, raw: bool = False, **_: object) -> None:
    if _concerns(instance, using) and not raw:
        following.after_save(instance)


def _follow_deleted(*, instance: Any, using: str, **_: object) -> None:
    if _concerns(instance, using):
        following.after_delete(instance)


def _concerns(instance: Any, using: str) -> bool:
    return not instance.no_changes and using == scheduler_settings().database and not is_sqlite()
