"""Its settings when Beat is gone, and django-celery-beat is uninstalled."""

import sys

from tests.docs.proj.during import *  # noqa: F403
from tests.docs.proj.during import INSTALLED_APPS as _DURING

sys.modules["django_celery_beat"] = None  # type: ignore[assignment]  # importing it raises ImportError

INSTALLED_APPS = [app for app in _DURING if app != "django_celery_beat"]
