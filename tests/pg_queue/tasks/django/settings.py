"""The project's settings for worker processes that run the tasks of these tests."""

from __future__ import annotations

import django

from tests.pg_queue.tasks.django.entries import TASKS as TASKS
from tests.settings import *  # noqa: F403 - a settings module takes all of the other one

if django.VERSION < (6, 0):
    INSTALLED_APPS = [*INSTALLED_APPS, "django_tasks"]  # noqa: F405
