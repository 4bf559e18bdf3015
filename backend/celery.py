"""The Celery app: its task registry is what `@shared_task` functions of the installed apps register in."""

import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "backend.settings")

app = Celery("downbeat")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
