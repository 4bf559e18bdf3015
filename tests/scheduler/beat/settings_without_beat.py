"""The project's settings without django-celery-beat, for a process of its own, which cannot even import it."""

import sys

from backend.settings import *  # noqa: F403
from backend.settings import INSTALLED_APPS as _ALL

sys.modules["django_celery_beat"] = None  # type: ignore[assignment]  # importing it raises ImportError

INSTALLED_APPS = [app for app in _ALL if app != "django_celery_beat"]
