"""What routes change in a tick: how long the run before counts as going on, and when statements are composed anew."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar

from django.core.signals import setting_changed

from pg_queue.api import has_routes, is_unsettled_sql
from scheduler.settings import scheduler_settings
from scheduler.statements import statements

Composing = TypeVar("Composing", bound=Callable[..., Any])


def unsettled_sql(dialect: str = "postgres") -> str:
    """A condition on a schedule's row: the run before has not ended, as far as that can be known.

    One that a Celery broker has taken counts as ended. One in another store counts until its outcome has come, and no
    longer than `SCHEDULER["FOLLOW_HOURS"]`.
    """
    is_here = is_unsettled_sql("last_run_id", dialect=dialect)
    if not has_routes():
        return is_here
    is_followed = statements("tick", dialect)["is_followed"].format(hours=scheduler_settings().follow_hours)
    return f"({is_here} OR {is_followed})"


def once_per_settings(compose: Composing) -> Composing:
    """Remember what a function composes, until the settings that it reads are changed (in tests)."""
    remembered: Any = cache(compose)

    def forget(*, setting: str, **_: object) -> None:
        if setting in {"PG_QUEUE", "SCHEDULER"}:
            remembered.cache_clear()

    setting_changed.connect(forget, weak=False)
    result: Composing = remembered
    return result
