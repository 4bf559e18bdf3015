"""The backend for the package `django-tasks`."""

from __future__ import annotations

from django_tasks.backends.base import BaseTaskBackend

from pg_queue.task_backend.core import Core
from pg_queue.tasks.django.package import FLAVOUR, QueueTask


class PgQueueBackend(Core, BaseTaskBackend):
    """See `Core`."""

    task_class = QueueTask
    flavour = FLAVOUR
