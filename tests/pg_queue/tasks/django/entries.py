"""`TASKS` of these tests: a few backends. Imports nothing of the API, because settings are made before it."""

from __future__ import annotations

from typing import Any

import django

JOBS = "tests.pg_queue.tasks.django.jobs"
BACKEND = "pg_queue.tasks.PgQueueBackend"
_API = "django.tasks" if django.VERSION >= (6, 0) else "django_tasks"
TASKS: dict[str, dict[str, Any]] = {
    "default": {"BACKEND": BACKEND, "QUEUES": ["default", "queue_1"], "OPTIONS": {"MODULES": [JOBS]}},
    "retrying": {"BACKEND": BACKEND, "QUEUES": [], "OPTIONS": {"MAX_ATTEMPTS": 3, "RETRY_BACKOFF_SECONDS": 0}},
    "tenant": {"BACKEND": BACKEND, "OPTIONS": {"NAMESPACE": "tenant"}},
    "immediate": {"BACKEND": f"{_API}.backends.immediate.ImmediateBackend", "QUEUES": []},
    "missing": {"BACKEND": "does.not.exist"},
}
