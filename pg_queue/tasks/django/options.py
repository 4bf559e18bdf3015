"""`OPTIONS` of a backend in `TASKS`, and what a task's decorator may say of how it is executed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pg_queue.errors import Configuration
from pg_queue.tasks.policy import Delivery, TaskOptions, declared

TASK_OPTIONS = (
    "max_attempts",
    "retry_backoff_seconds",
    "retry_backoff_max_seconds",
    "backoff",
    "retry_jitter",
    "retry_on",
    "never_on",
    "delivery",
    "time_limit_seconds",
    "soft_time_limit_seconds",
)
"""The options of `pg_queue.api.task` that a task of the API may have, too: the fields of a `QueueTask`."""
_OF_CLASSES = {"retry_on", "never_on"}
_LIMITS = {"time_limit_seconds", "soft_time_limit_seconds"}
_PLACES = ("STORE", "NAMESPACE", "MODULES")


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendOptions:
    """The keys of `OPTIONS`."""

    store: str = "default"
    """Alias of `PG_QUEUE["STORES"]`."""
    namespace: str | None = None
    """The tenant whose tasks they are; None: the store's own."""
    modules: tuple[str, ...] = ()
    """Modules with tasks besides those of the installed apps. A worker imports them."""
    task_options: Mapping[str, Any] = field(default_factory=lambda: {"max_attempts": 1})
    """`TASK_OPTIONS` of tasks that do not say. The API knows no retries: a task that fails has failed, unless the
    project says otherwise."""

    def of(self, task: Any) -> TaskOptions:
        """The options of this task: its own, else these."""
        own = {name: value for name in TASK_OPTIONS if (value := getattr(task, name, None)) is not None}
        mine = dict(self.task_options)
        if own.get("delivery") == Delivery.AT_MOST_ONCE:
            mine = {name: value for name, value in mine.items() if name in _LIMITS}
        return TaskOptions(**{**mine, **own})  # type: ignore[typeddict-item]


def parse_options(alias: str, raw: object) -> BackendOptions:
    """The options of `TASKS[alias]`. Raises: Configuration, also for a key that does not exist."""
    where = f"TASKS[{alias!r}]['OPTIONS']"
    if not isinstance(raw, Mapping):
        raise Configuration(f"{where}: expected a dictionary, got: {raw!r}")
    of_tasks = {name.upper(): name for name in TASK_OPTIONS if name not in _OF_CLASSES}
    for key in raw:
        if key not in of_tasks and key not in _PLACES:
            known = ", ".join(sorted([*of_tasks, *_PLACES]))
            raise Configuration(f"{where}: expected keys among {known}, got: {key!r}")
    given = {of_tasks[key]: value for key, value in raw.items() if key in of_tasks}
    return BackendOptions(
        store=_text(raw.get("STORE", "default"), f"{where}['STORE']"),
        namespace=None if raw.get("NAMESPACE") is None else _text(raw["NAMESPACE"], f"{where}['NAMESPACE']"),
        modules=_modules(raw.get("MODULES", ()), where),
        task_options=_task_options(given, where),
    )


def is_path(text: str) -> bool:
    """Whether this is a name, or names with dots between them."""
    return all(part.isidentifier() for part in text.split("."))


def _task_options(given: dict[str, Any], where: str) -> dict[str, Any]:
    try:
        declared("", TaskOptions(**given))  # type: ignore[typeddict-item]
    except ValueError as error:
        _, name, told = str(error).split(": ", 2)
        raise Configuration(f"{where}[{name.upper()!r}]: {told}") from None
    if given.get("delivery") == Delivery.AT_MOST_ONCE:
        return given
    return {"max_attempts": 1, **{name: value for name, value in given.items() if value is not None}}


def _text(value: object, where: str) -> str:
    if not isinstance(value, str):
        raise Configuration(f"{where}: expected a text, got: {value!r}")
    return value


def _modules(raw: object, where: str) -> tuple[str, ...]:
    if not isinstance(raw, (list, tuple)) or not all(isinstance(one, str) and is_path(one) for one in raw):
        raise Configuration(f"{where}['MODULES']: expected a list of modules' dotted names, got: {raw!r}")
    return tuple(raw)
