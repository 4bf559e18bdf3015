"""The backend of the `django.tasks` API, as `TASKS` names it: `pg_queue.tasks.PgQueueBackend`.

`core` has all that it does; `package` and `builtin` are the classes for the two flavours of the API.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

import django


def backend_class() -> type[Any]:
    """The class for Django's own `django.tasks`, where this Django has it; else the one for the package `django-tasks`.

    Raises: ImportError where there is neither, which says what to install.
    """
    if django.VERSION >= (6, 0):
        return _class_in("builtin")
    try:
        return _class_in("package")
    except ModuleNotFoundError as error:
        if error.name != "django_tasks":
            raise
        raise ImportError(
            "pg_queue.tasks.PgQueueBackend: expected Django 6.0 or later, or the package django-tasks, got neither; "
            "pip install 'django-downbeat[django-tasks]'"
        ) from error


def _class_in(module: str) -> type[Any]:
    found: type[Any] = import_module(f"pg_queue.task_backend.{module}").PgQueueBackend
    return found
