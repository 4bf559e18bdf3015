"""`SCHEDULER` of the project's settings, validated once. The only reader of `django.conf` in this app."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from typing import Any

from django.conf import settings as django_settings
from django.core.signals import setting_changed

from scheduler.domain import BeatMode, Firer
from scheduler.errors import InvalidInput


@dataclass(frozen=True, slots=True, kw_only=True)
class SchedulerSettings:
    """Every key of `SCHEDULER`, with its default. Durations are in seconds."""

    database: str = "default"
    """Alias of the Django database that holds schedules and ledger: the queue's own."""
    default_firer: str = "pg"
    """Who fires a new schedule that does not say: `pg` or `beat`."""
    beat_mode: str = "observe"
    """What `celery beat -S scheduler.beat.gate:DownbeatScheduler` does besides sending: `observe` or `gate`."""
    grace_seconds: int = 3600
    """How late an occurrence may still be fired; beyond it the ledger says `expired`."""
    on_time_seconds: int = 60
    """How late an occurrence may be fired where missed ones are not made up for: time for a leader to be replaced."""
    clean_occurrences: int = 20
    """How many occurrences in a row must compare clean before a schedule counts as ready to be handed over."""
    probation_hours: int = 24
    """How long after its hand-over a schedule that misbehaves goes back to Celery Beat by itself."""
    probation_failures: int = 3
    """How many runs of it must have failed, and none succeeded, for that."""
    herd_warning: int = 100
    """A schedule that joins a minute in which more others begin than that is warned of before it is saved."""
    follow_hours: int = 24
    """How long the overlap policy waits for a run that another store has taken and whose end it does not tell."""
    tick_batch: int = 5000
    """Most schedules that one transaction fires."""
    ledger_retention_days: int = 90
    """How long runs are kept. Longer than any catch-up window."""
    mirror_failure_retention_days: int = 30
    """How long failed mirror writes stay listed."""
    reconcile_seconds: float = 60.0
    """How often schedules are compared with their rows in Celery Beat."""
    writeback_seconds: float = 1.0
    """How often outcomes are carried from the queue into the ledger."""
    writeback_batch: int = 1000
    """Most outcomes that one transaction carries."""

    def __post_init__(self) -> None:
        _check_numbers(self)
        if self.default_firer not in set(Firer):
            raise _wrong("default_firer", "'pg' or 'beat'", self.default_firer)
        if self.beat_mode not in set(BeatMode):
            raise _wrong("beat_mode", "'observe' or 'gate'", self.beat_mode)
        if self.ledger_retention_days * 86400 <= self.grace_seconds:
            raise _wrong(
                "ledger_retention_days",
                f"longer than the catch-up window GRACE_SECONDS ({self.grace_seconds})",
                self.ledger_retention_days,
            )


def _check_numbers(conf: SchedulerSettings) -> None:
    for field in fields(SchedulerSettings):
        value = getattr(conf, field.name)
        if not _is_acceptable(field.name, str(field.type), value):
            number = f"a positive {field.type}, at most {_most(field.name)}"
            raise _wrong(field.name, "a string" if field.type == "str" else number, value)


def _most(key: str) -> int:
    """A hundred years of days, which can be taken from any date; else what PostgreSQL's integers hold."""
    return 36_500 if key.endswith("_days") else 2**31 - 1


def _is_acceptable(key: str, kind: str, value: object) -> bool:
    if kind == "str":
        return isinstance(value, str)
    if isinstance(value, bool) or not isinstance(value, int if kind == "int" else int | float):
        return False
    return 0 < value <= _most(key)  # false for NaN and infinity


def _wrong(key: str, expected: str, got: object) -> InvalidInput:
    return InvalidInput(field=f"SCHEDULER[{key.upper()!r}]", expected=expected, got=got)


def parse(raw: Mapping[str, Any]) -> SchedulerSettings:
    """Validate `raw` (keys in upper case). Raises `InvalidInput`, also for a key that does not exist."""
    known = {field.name.upper(): field.name for field in fields(SchedulerSettings)}
    for key in raw:
        if key not in known:
            raise InvalidInput(field="SCHEDULER", expected=f"keys among {', '.join(sorted(known))}", got=key)
    return SchedulerSettings(**{known[key]: value for key, value in raw.items()})


@cache
def scheduler_settings() -> SchedulerSettings:
    """The project's settings, read once. Raises `InvalidInput`."""
    return parse(getattr(django_settings, "SCHEDULER", {}))


def _forget(*, setting: str, **_: object) -> None:
    if setting == "SCHEDULER":
        scheduler_settings.cache_clear()


setting_changed.connect(_forget, dispatch_uid="scheduler.settings")
