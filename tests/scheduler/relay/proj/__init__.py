"""A project that ran on Celery Beat: its workers and its broker stay, and Downbeat fires."""

from tests.scheduler.relay.proj.celery import app as celery_app

__all__ = ["celery_app"]
