"""The parts of the API, by one set of names for both of its flavours."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import django


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


def flavours() -> Iterator[Flavour]:
    """Those that this process can have tasks of: Django's own wherever it is, the package's once it was imported.

    Nothing else imports Django's own before the first task does, and where tasks are is for its settings to say.
    """
    if django.VERSION >= (6, 0):
        yield import_module("pg_queue.tasks.django.builtin").FLAVOUR
    if "django_tasks.base" in sys.modules:
        yield import_module("pg_queue.tasks.django.package").FLAVOUR


def flavour_of(value: object) -> Flavour | None:
    """The flavour whose task this is; None for what is none."""
    return next((one for one in flavours() if isinstance(value, one.task)), None)
