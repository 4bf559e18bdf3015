"""The links between schedules and their rows in Celery Beat, and the fingerprints by which a change of either shows.

A fingerprint is of both rows together, of what each says in meaning-bearing columns, and is computed by the database,
so that a difference among thousands of them is found by one statement. It is stored where the two were found to agree.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

from django.db import connections

from scheduler.models import BeatLink
from scheduler.settings import scheduler_settings
from scheduler.statements import statements

if TYPE_CHECKING:
    from django_celery_beat.models import PeriodicTask


class Agreed(NamedTuple):
    """A schedule whose rows here and in Beat say the same."""

    schedule_id: UUID
    extras: dict[str, Any]
    fingerprint: str | None = None
    """Of the rows that were compared; None: of those that are there, which the caller holds."""


def of_schedule(schedule_id: UUID) -> BeatLink | None:
    """The link of a schedule; None: it has none yet."""
    return BeatLink.objects.using(_alias()).filter(pk=schedule_id).first()


def of_task(task: PeriodicTask) -> BeatLink | None:
    """The link of Beat's row, found by its key where it was renamed, by its name where it was made anew; None."""
    links = BeatLink.objects.using(_alias())
    return (
        links.filter(beat_id=task.pk).order_by("-linked_at").first()
        or links.filter(beat_name=task.name).order_by("-linked_at").first()
    )


def rename(schedule_id: UUID, name: str) -> None:
    """Follow Beat's row to another name. Joins the caller's transaction."""
    BeatLink.objects.using(_alias()).filter(pk=schedule_id).update(beat_name=name)


def forget(schedule_id: UUID) -> None:
    """A schedule is deleted for good. Joins the caller's transaction."""
    BeatLink.objects.using(_alias()).filter(pk=schedule_id).delete()


def agree(agreed: Iterable[Agreed]) -> None:
    """Store that rows agree, where they still are as they were compared. Joins the caller's transaction."""
    rows = list(agreed)
    parameters: dict[str, Any] = {
        "ids": [row.schedule_id for row in rows],
        "fingerprints": [row.fingerprint for row in rows],
        "extras": [json.dumps(row.extras) for row in rows],
    }
    with connections[_alias()].cursor() as cursor:
        cursor.execute(statements("beat_links")["agree"].format(pairs=pairs()), parameters)


def pairs() -> str:
    """SQL of every schedule with its row in Beat, and their fingerprint: to be put in parentheses."""
    return statements("beat_links")["pairs"]


def _alias() -> str:
    return scheduler_settings().database
