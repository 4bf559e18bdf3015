"""Its tasks, which write down that they ran."""

from __future__ import annotations

import json
import os
from typing import Any

from celery import shared_task


@shared_task(name="proj.note", bind=True)
def note(self: Any, *args: Any, **kwargs: Any) -> None:
    """Adds a line to the file that the environment names: what the worker was told. One write, so lines stay whole."""
    told = {
        "id": self.request.id,
        "args": args,
        "kwargs": kwargs,
        "schedule_id": self.request.headers and self.request.headers.get("schedule_id"),
        "priority": self.request.delivery_info.get("priority"),
    }
    with open(os.environ["PROJ_NOTES"], "a", encoding="utf-8") as notes:
        notes.write(f"{json.dumps(told)}\n")
