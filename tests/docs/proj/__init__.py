"""A project that runs on Celery Beat, and is taken off it by the migration guide."""

from tests.docs.proj.celery import app as celery_app

__all__ = ["celery_app"]
