"""Django's settings for `django_tasks_db_driver`."""

import os
from urllib.parse import urlsplit

_place = urlsplit(os.environ["BENCH_DATABASE_URL"])
SECRET_KEY = "a benchmark's"
USE_TZ = True
INSTALLED_APPS = ["django.contrib.contenttypes", "django_tasks", "django_tasks_db"]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "HOST": _place.hostname,
        "PORT": _place.port,
        "USER": _place.username,
        "PASSWORD": _place.password or "",
        "NAME": _place.path[1:],
        "CONN_MAX_AGE": None,
    }
}
TASKS = {"default": {"BACKEND": "django_tasks_db.DatabaseBackend"}}
LOGGING = {"version": 1, "root": {"level": "ERROR"}, "loggers": {"django_tasks": {"level": "ERROR"}}}
