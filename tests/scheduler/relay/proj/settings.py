"""Its settings. What a test chooses is in its environment: the broker, the queue, the routes, the other stores."""

from __future__ import annotations

import json
import os

from backend.database_url import parse_database_url

SECRET_KEY = "a test"
USE_TZ = True
TIME_ZONE = "UTC"
DATABASES = {"default": parse_database_url(os.environ["DATABASE_URL"])}
if url := os.environ.get("PROJ_OTHER_DATABASE_URL"):
    DATABASES["other"] = parse_database_url(url)
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = [
    "django.contrib.contenttypes",
    "django.contrib.auth",
    "django_celery_beat",
    "tests.scheduler.relay.proj",
    "pg_queue",
    "scheduler",
]
CELERY_BROKER_URL = os.environ.get("PROJ_BROKER_URL", "memory://")
CELERY_BROKER_TRANSPORT_OPTIONS = json.loads(os.environ.get("PROJ_TRANSPORT_OPTIONS", "{}"))
CELERY_TASK_DEFAULT_QUEUE = os.environ.get("PROJ_QUEUE", "proj")
CELERY_TASK_IGNORE_RESULT = True
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
PG_QUEUE = json.loads(os.environ.get("PROJ_PG_QUEUE", "{}"))
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"console": {"class": "logging.StreamHandler"}},
    "root": {"handlers": ["console"], "level": "INFO"},
}
