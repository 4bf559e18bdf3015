"""`PG_QUEUE` of the project's settings, validated once. The only reader of `django.conf` in this app."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from typing import Any

from django.conf import settings as django_settings
from django.core.signals import setting_changed

from pg_queue.errors import Configuration


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueSettings:
    """Every key of `PG_QUEUE`, with its default. Durations are in seconds."""

    database: str = "default"
    """Alias of the Django database that holds the queue."""
    direct_database: str | None = None
    """Alias of a direct connection to the same database, for the leader, LISTEN and session locks; None: `database`.
    Needed when `database` goes through PgBouncer in transaction mode."""
    max_payload_bytes: int = 256 * 1024
    """Bound on a message's args and kwargs together, and on a result, as UTF-8 JSON."""
    max_attempts: int = 3
    """Executions of a message in all, where neither it nor its task says otherwise."""
    retry_backoff_seconds: float = 5.0
    """Delay before the second attempt; doubled for each one after."""
    retry_backoff_max_seconds: float = 3600.0
    """Longest delay between two attempts."""
    lease_seconds: float = 60.0
    """How long a claim lives without renewal."""
    renew_seconds: float = 20.0
    """How often a worker renews its claims. At most half the lease."""
    heartbeat_seconds: float = 5.0
    """How often a worker says that it is alive."""
    drain_seconds: float = 30.0
    """How long a stopping worker lets running tasks finish."""
    task_time_limit_seconds: float | None = None
    """Executions longer than this are killed, where the task does not say otherwise; None: never."""
    claim_batch: int = 300
    """Most messages claimed at once. Reached only while tasks take milliseconds."""
    poll_seconds: float = 1.0
    """Longest wait of an idle worker; NOTIFY only shortens it."""
    result_ttl_seconds: float = 7 * 86400.0
    """How long results are kept after they finish; 0: for ever."""
    dead_letter_ttl_seconds: float = 30 * 86400.0
    """How long dead letters are kept; 0: for ever."""
    worker_ttl_seconds: float = 86400.0
    """How long rows of workers that are gone are kept."""
    reap_seconds: float = 5.0
    """How often the reaper makes its rounds."""
    reap_batch: int = 1000
    """Most rows that one statement of a reaper duty touches."""

    def __post_init__(self) -> None:
        for check in (_check_types, _check_ranges, _check_relations):
            check(self)


def _check_types(conf: QueueSettings) -> None:
    for field in fields(QueueSettings):
        value = getattr(conf, field.name)
        if not isinstance(value, _TYPES[str(field.type)]) or isinstance(value, bool):
            raise _wrong(field.name, str(field.type), value)


_TYPES: Mapping[str, tuple[type, ...]] = {
    "str": (str,),
    "str | None": (str, type(None)),
    "int": (int,),
    "float": (int, float),
    "float | None": (int, float, type(None)),
}
_MAY_BE_ZERO = {"result_ttl_seconds", "dead_letter_ttl_seconds", "retry_backoff_seconds", "drain_seconds"}


_LONGEST_SECONDS, _LARGEST = 100 * 366 * 86400, 2**31 - 1
"""More is a mistake: past what can be added to the present (a hundred years), or what PostgreSQL's integers hold."""


def _check_ranges(conf: QueueSettings) -> None:
    for field in fields(QueueSettings):
        value = getattr(conf, field.name)
        if not isinstance(value, int | float):
            continue
        least = "a number, 0 or more" if field.name in _MAY_BE_ZERO else "a number above 0"
        most = _LONGEST_SECONDS if field.name.endswith("_seconds") else _LARGEST
        is_enough = value > 0 or (value == 0 and field.name in _MAY_BE_ZERO)
        if not is_enough or value > most:  # the former is false for NaN
            raise _wrong(field.name, f"{least}, at most {most}", value)
    if conf.max_attempts > 32767:
        raise _wrong("max_attempts", "at most 32767", conf.max_attempts)


def _check_relations(conf: QueueSettings) -> None:
    if conf.renew_seconds * 2 > conf.lease_seconds:
        raise _wrong(
            "renew_seconds",
            f"at most half of LEASE_SECONDS ({conf.lease_seconds}), or a claim runs out before it is renewed",
            conf.renew_seconds,
        )


def _wrong(key: str, expected: str, got: object) -> Configuration:
    return Configuration(f"PG_QUEUE[{key.upper()!r}]: expected {expected}, got: {got!r}")


def parse(raw: Mapping[str, Any]) -> QueueSettings:
    """Validate `raw` (keys in upper case). Raises `Configuration`, also for a key that does not exist."""
    known = {field.name.upper(): field.name for field in fields(QueueSettings)}
    for key in raw:
        if key not in known:
            raise Configuration(f"PG_QUEUE: expected keys among {', '.join(sorted(known))}, got: {key!r}")
    return QueueSettings(**{known[key]: value for key, value in raw.items()})


@cache
def queue_settings() -> QueueSettings:
    """The project's settings, read once. Raises `Configuration`."""
    return parse(getattr(django_settings, "PG_QUEUE", {}))


def direct_alias() -> str:
    """Alias of the database connection that session locks and LISTEN use."""
    conf = queue_settings()
    return conf.direct_database or conf.database


def _forget(*, setting: str, **_: object) -> None:
    if setting == "PG_QUEUE":
        queue_settings.cache_clear()


setting_changed.connect(_forget, dispatch_uid="pg_queue.settings")
