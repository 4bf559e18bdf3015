"""The backend for Django's own `django.tasks`."""

from __future__ import annotations

from django.tasks.backends.base import BaseTaskBackend

from pg_queue.task_backend.core import Core
from pg_queue.tasks.django.builtin import FLAVOUR, QueueTask


class PgQueueBackend(Core, BaseTaskBackend):
    """See `Core`."""

    task_class = QueueTask
    flavour = FLAVOUR
