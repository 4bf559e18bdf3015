"""What `seed_demo` makes, once for each database: what a person changes or deletes of it afterwards stays so."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from typing import Any

from django.contrib.auth import get_user_model
from django.contrib.auth.models import AbstractBaseUser
from django.db import transaction
from django.db.models import Q
from django.utils import timezone
from rest_framework.authtoken.models import Token

from backend.pipelines.models import DEFAULT_ORGANIZATION, DemoSeeding, Pipeline, PipelineStep
from scheduler import api

NAMESPACE = uuid.UUID("5d0c2a0e-6f3b-4b0a-9f57-6f8f0f1f7f10")

SCHEDULES: dict[str, dict[str, Any]] = {
    "heartbeat": {
        "name": "Heartbeat, every 5 seconds",
        "kind": "interval",
        "expression": "PT5S",
        "task": "echo",
        "args": ["still here"],
    },
    "celery": {
        "name": "A Celery task, every minute",
        "expression": "* * * * *",
        "task": "demo.count_words",
        "args": ["nothing in this task knows of Downbeat"],
    },
    "failing": {
        "name": "Fails on purpose, every 2 minutes: see its retries",
        "expression": "*/2 * * * *",
        "task": "demo.fail",
    },
    "clean-up": {
        "name": "Clean-up of old executions, nightly in Berlin",
        "expression": "15 2 * * *",
        "timezone": "Europe/Berlin",
        "task": "pipelines.clean_up",
    },
    "opening": {
        "name": "New York opens, on working days",
        "expression": "30 9 * * mon-fri",
        "timezone": "America/New_York",
        "task": "echo",
        "kwargs": {"bell": "opening"},
    },
    "paused": {
        "name": "Monthly report",
        "expression": "0 6 1 * *",
        "timezone": "Europe/London",
        "task": "noop",
        "enabled": False,
        "pause_note": "Waits for the new figures",
    },
}
BEATS_FAULT = "beat-fault"
BEAT_SCHEDULES: dict[str, dict[str, Any]] = {
    "beat-interval": {
        "name": "Beat sends it, every 10 seconds",
        "kind": "interval",
        "expression": "PT10S",
        "task": "demo.count_words",
        "args": ["Celery Beat sends this to a Celery worker"],
        "firer": "beat",
    },
    "beat-crontab": {
        "name": "Beat sends it, every minute",
        "expression": "* * * * *",
        "task": "demo.count_words",
        "args": ["Celery Beat sends this to a Celery worker"],
        "firer": "beat",
    },
    BEATS_FAULT: {
        "name": "Beat's fault: sends at once what fell into a pause",
        "expression": "* * * * *",
        "task": "demo.count_words",
        "args": ["this was due while the schedule was switched off"],
        "firer": "beat",
        "enabled": False,
        "pause_note": "Switched on and off by a schedule, through django-celery-beat",
    },
    # Each time it is off, a full minute passes.
    "beat-switch": {
        "name": "Switches Beat's fault on and off, every 70 seconds",
        "kind": "interval",
        "expression": "PT70S",
        "task": "demo.switch_in_beat",
        "firer": "pg",
    },
}
"""Made where there is a Celery Beat to send them. Compared with what the tick would have fired."""
PIPELINE: dict[str, Any] = {
    "name": "Time zone changes: load, transform, aggregate",
    "expression": "* * * * *",
}
STEPS: tuple[dict[str, Any], ...] = (
    {"task": "pipelines.load_csv", "kwargs": {"path": "time_zone_changes.csv"}},
    {"task": "pipelines.transform"},
    {"task": "pipelines.aggregate", "kwargs": {"since_year": 2015}},
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoUser:
    """Who may log in to look at the demo."""

    username: str
    token: str
    has_password: bool
    """The password that was given is this user's."""


@transaction.atomic
def seed(password: str | None, *, keep_password: bool = False, with_beat: bool = False) -> DemoUser | None:
    """Make the demo where that was never done; its user, or None when somebody has deleted them.

    `password` becomes the user's, also of one who exists, unless `keep_password`; None: a new user gets none that
    works. Touches no user whom it did not make. `with_beat`: the schedules that Celery Beat fires, too, once as well.
    Opens and commits its own transaction; safe in parallel.
    """
    seeding, is_first = DemoSeeding.objects.select_for_update().get_or_create(pk=1)
    if is_first:
        seeding.user = _make_user(password)
        _schedules(SCHEDULES)
        _pipeline()
    if with_beat and seeding.beat_made_at is None:
        seeding.beat_made_at = timezone.now()
        _schedules(BEAT_SCHEDULES)
    seeding.save()
    if seeding.user is None:
        return None
    has_password = password is not None and (is_first or _let_in(seeding.user, password, keep_password=keep_password))
    token, _ = Token.objects.get_or_create(user=seeding.user)
    return DemoUser(username=seeding.user.get_username(), token=token.key, has_password=has_password)


def identity(key: str) -> uuid.UUID:
    """The id of the demo's row of this key."""
    return uuid.uuid5(NAMESPACE, key)


def _make_user(password: str | None) -> AbstractBaseUser:
    users = get_user_model()
    username = next(name for name in _usernames() if not users.objects.filter(username=name).exists())
    made: AbstractBaseUser = users.objects.create_superuser(username=username, email="", password=password)
    return made


def _usernames() -> Iterator[str]:
    yield "admin"
    yield "demo"
    yield from (f"demo-{number}" for number in count(2))


def _let_in(user: AbstractBaseUser, password: str, *, keep_password: bool) -> bool:
    """Whether the password is the user's, now that it was set where it may be."""
    if user.check_password(password):  # setting the same again would end the user's sessions
        return True
    if not keep_password:
        user.set_password(password)
        user.save(update_fields=["password"])
    return not keep_password


def _schedules(schedules: dict[str, dict[str, Any]]) -> None:
    for key, values in schedules.items():
        if not api.PgPeriodicSchedule.objects.filter(pk=identity(key)).exists():
            api.create_schedule(schedule_id=identity(key), **values)


def _pipeline() -> None:
    same = Q(pk=identity("pipeline")) | Q(organization_id=DEFAULT_ORGANIZATION, name=PIPELINE["name"])
    if Pipeline.objects.filter(same).exists():
        return
    pipeline = Pipeline(id=identity("pipeline"), **PIPELINE)
    pipeline.save()
    for position, step in enumerate(STEPS, start=1):
        PipelineStep.objects.create(pipeline=pipeline, position=position, **step)
    # So that something is to be seen before the first minute is full.
    api.run_schedule(pipeline.pk)
