"""The Django project: the only place that wires everything. Nothing imports it."""

from backend.celery import app as celery_app

__all__ = ["celery_app"]
