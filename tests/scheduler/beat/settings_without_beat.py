"""The project's settings without django-celery-beat, for a process of its own."""

from backend.settings import *  # noqa: F403
from backend.settings import INSTALLED_APPS as _ALL

INSTALLED_APPS = [app for app in _ALL if app != "django_celery_beat"]
