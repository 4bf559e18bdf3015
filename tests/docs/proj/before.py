"""Its settings before: Celery and django-celery-beat, as their documentation has it."""

from __future__ import annotations

import os

from backend.database_url import parse_database_url

SECRET_KEY = "a test"
USE_TZ = True
TIME_ZONE = "UTC"
DATABASES = {"default": parse_database_url(os.environ["DATABASE_URL"])}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = ["django.contrib.contenttypes", "django.contrib.auth", "tests.docs.proj", "django_celery_beat"]
CELERY_BROKER_URL = "memory://"
CELERY_TIMEZONE = TIME_ZONE
