"""A pipeline that is deleted, alone, by a query set, in bulk or by a cascade, takes its schedule along."""

from __future__ import annotations

from typing import Any

from django.db.models.signals import post_delete, pre_delete
from django.dispatch import receiver

from backend.pipelines import services
from backend.pipelines.models import Pipeline


@receiver(pre_delete, sender=Pipeline, dispatch_uid="pipelines.lock_schedule")
def lock_schedule(instance: Pipeline, **_: Any) -> None:
    """Runs inside the transaction that deletes the pipeline, before any row of it is locked."""
    services.lock_schedule(instance.pk)


@receiver(post_delete, sender=Pipeline, dispatch_uid="pipelines.delete_schedule")
def delete_schedule(instance: Pipeline, **_: Any) -> None:
    """Runs inside the transaction that deletes the pipeline: both go or neither."""
    services.delete_schedule(instance.pk)
