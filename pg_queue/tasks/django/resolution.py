"""From a name in a message to the task of the API that it means."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from importlib import import_module
from types import ModuleType
from typing import Any

from django.apps import apps

from pg_queue.errors import Configuration, UnknownTask
from pg_queue.tasks.django.execution import Execution
from pg_queue.tasks.django.flavour import Flavour, flavour_of, flavours
from pg_queue.tasks.django.options import BackendOptions, is_path
from pg_queue.tasks.django.results import queue_priority
from pg_queue.tasks.policy import TaskOptions
from pg_queue.tasks.policy import declared as declared_options
from pg_queue.tasks.registry import TaskInfo, summary

_found: dict[str, Any] = {}
"""Tasks by the path that led to them."""
_declared: set[str] = set()
"""Paths of the functions that a backend of ours was asked to validate in this process."""


def note(path: str) -> None:
    """A task with this function was declared for, or lent to, a backend of ours."""
    _declared.add(path)


def find(name: str) -> Any | None:
    """The task whose function has this dotted path; None where there is none, also outside of `is_in_scope`.

    Raises: UnknownTask, caused by what its module raised, where that cannot be imported.
    """
    if name not in _found:
        if not is_in_scope(name):
            return None
        try:
            task = _resolved(name)
        except Exception as error:
            raise UnknownTask(name) from error
        if task is None or flavour_of(task) is None or task.module_path != name:
            return None
        _found[name] = task
    return _found[name]


def declared() -> list[str]:
    """The names of all tasks that this process knows of, and `find` resolves."""
    return [name for name in sorted(_declared) if is_in_scope(name) and find(name) is not None]


def out_of_scope() -> list[str]:
    """The names of tasks that this process knows of, and a worker would not find."""
    return [name for name in sorted(_declared) if not is_in_scope(name)]


def is_in_scope(name: str) -> bool:
    """Whether the name is of a module that a task may be in."""
    return is_path(name) and any(name.startswith(f"{package}.") for package in _scope())


def import_modules() -> None:
    """Import what `MODULES` of the backends names, so that the tasks there are declared. Raises: ImportError."""
    for options in _all_options():
        for module in options.modules:
            import_module(module)


def is_known(name: str) -> bool:
    """Whether `find` has found it before."""
    return name in _found


def known_info(name: str) -> TaskInfo | None:
    """What the registry is to know of a task that was found before; None for any other name."""
    task = _found.get(name)
    if task is None:
        return None
    options = options_of(task)
    made = _infos.get(name)
    if made is None or made[0] != options:  # made once, because every message asks
        made = _infos[name] = options, _info(task, options)
    return made[1]


def info_of(name: str) -> TaskInfo | None:
    """The same of any. Raises: UnknownTask, see `find`."""
    return known_info(name) if find(name) is not None else None


def options_of(task: Any) -> TaskOptions:
    """The task's own options, else its backend's; the API's, which knows no retries, where that is none of ours."""
    flavour = flavour_of(task)
    return ((flavour and _options(flavour, task.backend)) or BackendOptions()).of(task)


_infos: dict[str, tuple[TaskOptions, TaskInfo]] = {}


def _info(task: Any, options: TaskOptions) -> TaskInfo:
    flavour = flavour_of(task)
    assert flavour is not None
    place = TaskOptions(queue=task.queue_name, priority=queue_priority(task.priority))
    fields = declared_options(task.module_path, place | options)
    execution = Execution(flavour, task, fields["retry"])
    return TaskInfo(
        name=task.module_path,
        signature=_signature(task),
        doc=summary(task.func),
        source="django",
        run=execution.run,
        run_async=execution.run_async if execution.is_async else None,
        **fields,
    )


def _signature(task: Any) -> str:
    signature = inspect.signature(task.func)
    parameters = list(signature.parameters.values())[1 if task.takes_context else 0 :]
    return str(signature.replace(parameters=parameters))


def _scope() -> Iterator[str]:
    yield from (config.name for config in apps.get_app_configs())
    for options in _all_options():
        yield from options.modules


def _all_options() -> Iterator[BackendOptions]:
    for flavour in flavours():
        for alias in flavour.backends.settings:
            if options := _options(flavour, alias):
                yield options


def _options(flavour: Flavour, alias: str) -> BackendOptions | None:
    try:
        return getattr(flavour.backends[alias], "queue_options", None)
    except (flavour.unknown_backend, Configuration):
        return None  # another's, which this process cannot import; or one that `manage.py check` tells of


def _resolved(path: str) -> Any | None:
    """What stands at the path: the longest part of it that is a module, and attributes from there on."""
    parts = path.split(".")
    for count in range(len(parts) - 1, 0, -1):
        module = _module(".".join(parts[:count]))
        if module is not None:
            found: Any = module
            for part in parts[count:]:
                found = getattr(found, part, None)
            return found
    return None


def _module(name: str) -> ModuleType | None:
    """The module of this name; None where there is none. Raises: whatever its own code raises, ImportError too."""
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise
        return None
