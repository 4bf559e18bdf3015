"""What `seed_demo` makes: each once, under an id of its own, so that a second time changes nothing."""

from __future__ import annotations

import uuid
from typing import Any

from django.contrib.auth import get_user_model
from django.contrib.auth.models import AbstractBaseUser
from django.db import transaction
from rest_framework.authtoken.models import Token

from backend.pipelines.models import Pipeline, PipelineStep
from scheduler import api

NAMESPACE = uuid.UUID("5d0c2a0e-6f3b-4b0a-9f57-6f8f0f1f7f10")
USERNAME = "admin"

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
PIPELINE: dict[str, Any] = {
    "name": "Time zone changes: load, transform, aggregate",
    "expression": "* * * * *",
}
STEPS: tuple[dict[str, Any], ...] = (
    {"task": "pipelines.load_csv", "kwargs": {"path": "time_zone_changes.csv"}},
    {"task": "pipelines.transform"},
    {"task": "pipelines.aggregate", "kwargs": {"since_year": 2015}},
)


@transaction.atomic
def seed(password: str | None) -> tuple[str, str]:
    """Make what is missing of the demo; return the user's name and token. Opens and commits its own transaction.

    `password` None: an existing password stays, and a new user gets none that works.
    """
    user = _user(password)
    for key, values in SCHEDULES.items():
        _schedule(key, values)
    _pipeline()
    token, _ = Token.objects.get_or_create(user=user)
    return USERNAME, token.key


def identity(key: str) -> uuid.UUID:
    """The id of the demo's row of this key."""
    return uuid.uuid5(NAMESPACE, key)


def _user(password: str | None) -> AbstractBaseUser:
    users = get_user_model()
    user, is_new = users.objects.get_or_create(
        username=USERNAME, defaults={"is_staff": True, "is_superuser": True, "email": ""}
    )
    if password is not None and not user.check_password(password):  # the same again would end the user's sessions
        user.set_password(password)
    elif is_new:
        user.set_unusable_password()
    user.save()
    return user


def _schedule(key: str, values: dict[str, Any]) -> None:
    if not api.PgPeriodicSchedule.objects.filter(pk=identity(key)).exists():
        api.create_schedule(schedule_id=identity(key), **values)


def _pipeline() -> None:
    if Pipeline.objects.filter(pk=identity("pipeline")).exists():
        return
    pipeline = Pipeline(id=identity("pipeline"), **PIPELINE)
    pipeline.save()
    for position, step in enumerate(STEPS, start=1):
        PipelineStep.objects.create(pipeline=pipeline, position=position, **step)
    # So that something is to be seen before the first minute is full.
    api.run_schedule(pipeline.pk)
