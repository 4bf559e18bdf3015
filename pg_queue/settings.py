"""`PG_QUEUE` of the project's settings, validated once. The only reader of `django.conf` in this app."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cache
from typing import Any

from django.conf import settings as django_settings
from django.core.signals import setting_changed

from pg_queue.domain import RateLimit
from pg_queue.errors import Configuration
from pg_queue.fairness import LARGEST, FairnessSettings, parse_fairness
from pg_queue.rates import parse_limits
from pg_queue.routes import Routes, parse_routes


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultsSettings:
    """Every key of `PG_QUEUE["RESULTS"]`, with its default: where results are kept outside of the queue's own rows."""

    backend: str = "database"
    """`database`, `redis`, or the dotted path of a class that implements `pg_queue.results.ports.ResultStore`."""
    database: str | None = None
    """`database`: alias of the Django database that keeps the results; needed."""
    url: str | None = None
    """`redis`: URL of the server, such as `redis://127.0.0.1:6379/0`; needed."""
    prefix: str = "downbeat"
    """`redis`: what all keys begin with."""
    ttl_seconds: float | None = None
    """How long results are kept after they finish; 0: for ever; None: `RESULT_TTL_SECONDS`."""
    clear_after_seconds: float = 0.0
    """The reaper deletes what finished longer ago than this, whatever its time to live; 0: nothing."""
    max_bytes: int | None = None
    """Bound on a result as UTF-8 JSON; None: `MAX_PAYLOAD_BYTES`."""
    give_up_seconds: float = 60.0
    """How long a worker holds on to a result while the store cannot be reached; then the message is tried again."""

    def __post_init__(self) -> None:
        for check in (_check_types, _check_ranges, _check_backend):
            check(self)


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
    task_soft_time_limit_seconds: float | None = None
    """Executions longer than this are asked to end, where the task does not say otherwise; None: never."""
    claim_batch: int = 300
    """Most messages claimed at once. Reached only while tasks take milliseconds."""
    worker_store: str = "default"
    """Alias of the store that `run_worker` serves."""
    worker_namespace: str | None = None
    """The namespace in it; None: the one of the store's entry."""
    worker_queues: str = "default"
    """The queues that it serves, as `--queues` takes them."""
    worker_pool: str = "process"
    """What runs its tasks: `process`, `thread` or `asyncio`."""
    worker_concurrency: int | None = None
    """How many it runs at once; None: as many as there are CPUs."""
    max_tasks_per_child: int | None = None
    """A worker's child process is replaced after so many executions; None: never for that."""
    max_memory_per_child_mb: int | None = None
    """One that occupies more memory than this after an execution is replaced; in MiB; None: never for that."""
    health_port: int | None = None
    """Where a service serves `/healthz`, `/readyz` and `/metrics`; 0: any free port; None: it does not. Every service
    of a machine needs its own: by its flag, or its environment."""
    health_host: str = "127.0.0.1"
    """The address that it listens on for them."""
    poll_seconds: float = 1.0
    """Longest wait of an idle worker; NOTIFY only shortens it."""
    key_ttl_seconds: float = 86400.0
    """How long an idempotency key holds after its message has ended, where the message does not say; 0: not at all."""
    fairness: Mapping[str, Any] | None = None
    """How organizations take turns; see `FairnessSettings`. None: all weigh the same, and run as much as they can."""
    rate_limits: Mapping[str, Any] | None = None
    """How often messages of a queue may begin, by queue: `{"mails": "100/m"}`; None: as often as there are workers."""
    aging_seconds: float = 60.0
    """What has been due longer goes first now and then, whatever its priority: in every sixteenth claim."""
    stores: Mapping[str, Any] | None = None
    """Stores by alias, as `DATABASES` is; see `StoreSettings`. None: one, `default`, in `database`."""
    routes: Mapping[str, Any] | None = None
    """Queues that are worked off elsewhere, with their targets; see `pg_queue.routes.Route`. None: none is."""
    relay_seconds: float = 1.0
    """Longest wait of an idle relay for what is routed away, and how often it asks other stores for outcomes."""
    relay_batch: int = 100
    """Most messages that the relay sends before it notes them as sent."""
    relay_lease_seconds: float = 60.0
    """How long a relay holds what it is about to send: what one that was killed had in hand is sent again after it."""
    relay_backoff_max_seconds: float = 60.0
    """Longest delay between two attempts to send; the first is a second, and it doubles."""
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
    results: ResultsSettings | None = None
    """Where results are kept, as a dictionary with the keys of `ResultsSettings`; None: in the queue's own rows."""

    def __post_init__(self) -> None:
        checks = (_check_types, _check_ranges, _check_relations, _check_fairness, _check_stores, _check_routes)
        for check in checks:
            check(self)

    @property
    def turns(self) -> FairnessSettings:
        """How organizations take turns."""
        return parse_fairness(self.fairness or {})

    @property
    def places(self) -> Mapping[str, StoreSettings]:
        """The stores by alias, `default` among them."""
        given = {"default": {}} if self.stores is None else self.stores
        return {alias: _parse_store(alias, raw, self.database) for alias, raw in given.items()}

    @property
    def max_result_bytes(self) -> int:
        """Bound on a result as UTF-8 JSON, wherever it is kept."""
        own = self.results.max_bytes if self.results else None
        return self.max_payload_bytes if own is None else own

    @property
    def results_ttl_seconds(self) -> float:
        """How long the store of `results` keeps one after it finished; 0: for ever."""
        own = self.results.ttl_seconds if self.results else None
        return self.result_ttl_seconds if own is None else own

    @property
    def limits(self) -> Mapping[str, RateLimit]:
        """The rate limits by queue."""
        return parse_limits(self.rate_limits or {})

    @property
    def routing(self) -> Routes:
        """The routes by queue."""
        return parse_routes(self.routes or {}, self.places)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreSettings:
    """One entry of `PG_QUEUE["STORES"]`."""

    alias: str
    backend: str = ""
    """A backend's name, or the dotted path of a class; empty: the one of `database`'s vendor."""
    database: str = "default"
    """Alias of a Django database, for a store that lives in one; `PG_QUEUE["DATABASE"]` where the entry has none."""
    url: str = ""
    """Address of a server, for a store that has one of its own."""
    namespace: str = ""
    """The tenant whose messages are seen."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """The backend's own."""

    def within(self, namespace: str) -> StoreSettings:
        """The same store, seen from another namespace. Raises: Configuration."""
        if not _NAMESPACE.fullmatch(namespace):
            raise self.wrong("NAMESPACE", NAMESPACE_RULE, repr(namespace))
        return replace(self, namespace=namespace)

    def wrong(self, key: str, expected: str, got: object) -> Configuration:
        """The error that names this entry's `key`."""
        return Configuration(f"PG_QUEUE['STORES'][{self.alias!r}][{key!r}]: expected {expected}, got: {got}")


NAMESPACE_RULE = "0 to 64 letters, digits, '_', '-', '.' or ':'"
_NAMESPACE = re.compile(r"[A-Za-z0-9._:-]{0,64}")


def _parse_store(alias: str, raw: object, database: str) -> StoreSettings:
    if not isinstance(raw, Mapping):
        raise Configuration(f"PG_QUEUE['STORES'][{alias!r}]: expected a dictionary, got: {raw!r}")
    known = {one.name.upper() for one in fields(StoreSettings)} - {"ALIAS"}
    if unknown := sorted(set(raw) - known):
        expected = ", ".join(sorted(known))
        raise Configuration(f"PG_QUEUE['STORES'][{alias!r}]: expected keys among {expected}, got: {unknown[0]!r}")
    place = StoreSettings(alias=alias, **{"database": database, **{key.lower(): raw[key] for key in raw}})
    for key in ("backend", "database", "url", "namespace"):
        if not isinstance(value := getattr(place, key), str):
            raise place.wrong(key.upper(), "a text", repr(value))
    if not isinstance(place.options, Mapping):
        raise place.wrong("OPTIONS", "a dictionary", repr(place.options))
    return place.within(place.namespace)


def _check_fairness(conf: QueueSettings) -> None:
    _ = conf.turns


def _check_stores(conf: QueueSettings) -> None:
    if conf.stores is not None and "default" not in conf.stores:
        raise _wrong(conf, "stores", "an entry 'default', as DATABASES has", sorted(conf.stores))
    _ = conf.places


def _check_routes(conf: QueueSettings) -> None:
    _ = conf.routing, conf.limits


Section = QueueSettings | ResultsSettings


def _check_types(conf: Section) -> None:
    for one in fields(conf):
        value = getattr(conf, one.name)
        if not isinstance(value, _TYPES[str(one.type)]) or isinstance(value, bool):
            raise _wrong(conf, one.name, str(one.type), value)


_TYPES: Mapping[str, tuple[type, ...]] = {
    "str": (str,),
    "str | None": (str, type(None)),
    "int": (int,),
    "int | None": (int, type(None)),
    "float": (int, float),
    "float | None": (int, float, type(None)),
    "Mapping[str, Any] | None": (Mapping, type(None)),
    "ResultsSettings | None": (ResultsSettings, type(None)),
}
_MAY_BE_ZERO = {
    "key_ttl_seconds",
    "result_ttl_seconds",
    "dead_letter_ttl_seconds",
    "retry_backoff_seconds",
    "drain_seconds",
    "ttl_seconds",
    "clear_after_seconds",
    "give_up_seconds",
    "health_port",
}


LAST_PORT = 65535
_LONGEST_SECONDS = 100 * 366 * 86400
"""More is a mistake: a hundred years is past what can be added to the present."""


def _check_ranges(conf: Section) -> None:
    for one in fields(conf):
        value = getattr(conf, one.name)
        if not isinstance(value, int | float):
            continue
        least = "a number, 0 or more" if one.name in _MAY_BE_ZERO else "a number above 0"
        most = _LONGEST_SECONDS if one.name.endswith("_seconds") else LARGEST
        is_enough = value > 0 or (value == 0 and one.name in _MAY_BE_ZERO)
        if not is_enough or value > most:  # the former is false for NaN
            raise _wrong(conf, one.name, f"{least}, at most {most}", value)


def _check_relations(conf: QueueSettings) -> None:
    soft, hard = conf.task_soft_time_limit_seconds, conf.task_time_limit_seconds
    if soft is not None and hard is not None and soft >= hard:
        raise _wrong(conf, "task_soft_time_limit_seconds", f"less than TASK_TIME_LIMIT_SECONDS ({hard})", soft)
    if conf.health_port is not None and conf.health_port > LAST_PORT:
        raise _wrong(conf, "health_port", f"a port from 0 to {LAST_PORT}", conf.health_port)
    if conf.max_attempts > 32767:
        raise _wrong(conf, "max_attempts", "at most 32767", conf.max_attempts)
    if conf.renew_seconds * 2 > conf.lease_seconds:
        raise _wrong(
            conf,
            "renew_seconds",
            f"at most half of LEASE_SECONDS ({conf.lease_seconds}), or a claim runs out before it is renewed",
            conf.renew_seconds,
        )


def _check_backend(conf: ResultsSettings) -> None:
    if conf.backend == "database" and not conf.database:
        raise _wrong(conf, "database", "an alias of DATABASES, where BACKEND is 'database'", conf.database)
    if conf.backend == "redis" and not conf.url:
        raise _wrong(conf, "url", "the URL of a Redis server, where BACKEND is 'redis'", conf.url)
    if conf.backend not in {"database", "redis"} and "." not in conf.backend:
        raise _wrong(conf, "backend", "'database', 'redis' or the dotted path of a class", conf.backend)
    if not conf.prefix or set(conf.prefix) & set("{} \t\n"):
        raise _wrong(conf, "prefix", "a text without braces and spaces, not empty", conf.prefix)


def _wrong(conf: Section, key: str, expected: str, got: object) -> Configuration:
    return Configuration(f"{_path(type(conf))}[{key.upper()!r}]: expected {expected}, got: {got!r}")


def _path(section: type[Section]) -> str:
    return "PG_QUEUE" if section is QueueSettings else "PG_QUEUE['RESULTS']"


def parse(raw: Mapping[str, Any]) -> QueueSettings:
    """Validate `raw` (keys in upper case). Raises `Configuration`, also for a key that does not exist."""
    values = _lowered(raw, QueueSettings)
    if (results := values.get("results")) is not None:
        if not isinstance(results, Mapping):
            raise Configuration(f"PG_QUEUE['RESULTS']: expected a dictionary, got: {results!r}")
        values["results"] = ResultsSettings(**_lowered(results, ResultsSettings))
    return QueueSettings(**values)


def _lowered(raw: Mapping[str, Any], section: type[Section]) -> dict[str, Any]:
    known = {one.name.upper(): one.name for one in fields(section)}
    for key in raw:
        if key not in known:
            raise Configuration(f"{_path(section)}: expected keys among {', '.join(sorted(known))}, got: {key!r}")
    return {known[key]: value for key, value in raw.items()}


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
