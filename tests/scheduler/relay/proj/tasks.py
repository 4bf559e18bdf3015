"""Its tasks, which write down that they ran."""

from __future__ import annotations

import json
import os
import time
from typing import Any

from celery import shared_task
from django.db import transaction


@shared_task(name="proj.note", bind=True)
def note(self: Any, *args: Any, **kwargs: Any) -> None:
    """Writes down what the worker was told."""
    _write_down(self.request, args, kwargs)


@shared_task(name="proj.note_late", bind=True, acks_late=True, reject_on_worker_lost=True)
def note_late(self: Any, *args: Any, **kwargs: Any) -> None:
    """The same; its message is acknowledged when it is done, and comes back when its process was killed."""
    _write_down(self.request, args, kwargs)


@shared_task(name="proj.hold", bind=True)
def hold(self: Any, seconds: float) -> None:
    """The same, and is busy for so long afterwards."""
    _write_down(self.request, (seconds,), {})
    time.sleep(seconds)


@shared_task(name="proj.again", bind=True)
def again(self: Any) -> None:
    """The same, and is retried once, inside of a transaction that its retry rolls back."""
    _write_down(self.request, (), {})
    with transaction.atomic():
        if not self.request.retries:
            raise self.retry(countdown=0)


def _write_down(request: Any, args: Any, kwargs: Any) -> None:
    """Adds a line to the file that the environment names. One write, so lines stay whole."""
    told = {
        "id": request.id,
        "args": args,
        "kwargs": kwargs,
        "schedule_id": request.headers and request.headers.get("schedule_id"),
        "priority": request.delivery_info.get("priority"),
        "at": time.time(),
    }
    with open(os.environ["PROJ_NOTES"], "a", encoding="utf-8") as notes:
        notes.write(f"{json.dumps(told)}\n")
