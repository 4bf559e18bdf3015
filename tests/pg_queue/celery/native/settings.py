"""The project's settings for processes that run these tasks, with Celery on PostgreSQL alone."""

from __future__ import annotations

from tests.settings import *  # noqa: F403 - a settings module takes all of the other one

INSTALLED_APPS = [*INSTALLED_APPS, "tests.pg_queue.celery.native"]  # noqa: F405
CELERY_BROKER_URL = CELERY_RESULT_BACKEND = "downbeat://"
