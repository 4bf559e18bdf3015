"""The parts of the API, by one set of names for both of its flavours."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Flavour:
    """One of the packages that define the API."""

    task: type[Any]
    result: type[Any]
    """Ours, which counts executions; see `pg_queue.tasks.django.results.Counted`."""
    error: type[Any]
    context: type[Any]
    status: Any
    """The enumeration of a result's states."""
    signals: Any
    """The module with `task_enqueued`, `task_started`, `task_finished`."""
    backends: Any
    """The backends of `TASKS`, by alias."""
    normalize: Callable[[Any], Any]
    """The API's own idea of what JSON can hold. Raises: TypeError, ValueError."""
    invalid: type[Exception]
    unknown_backend: type[Exception]
    no_result: type[Exception]


_MODULES = {"django_tasks": "package", "django.tasks": "builtin"}
"""Where each is defined, and the module here that names its parts."""


def flavours() -> Iterator[Flavour]:
    """Those that this process has imported: no task of another one can be there."""
    for package, module in _MODULES.items():
        if f"{package}.base" in sys.modules:
            yield import_module(f"pg_queue.tasks.django.{module}").FLAVOUR


def flavour_of(value: object) -> Flavour | None:
    """The flavour whose task this is; None for what is none."""
    return next((one for one in flavours() if isinstance(value, one.task)), None)
