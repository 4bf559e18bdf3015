"""Imported once by the process that children are forked from: Django and all tasks, so that a child starts at once.

Whatever goes wrong here goes wrong again in the child, which can say so.
"""

from __future__ import annotations

import contextlib
import gc
import signal

import django
from django.apps import apps
from django.db import connections


def _load() -> None:
    gc.disable()  # what is loaded is no garbage, and to look for some takes a fifth of the time
    try:
        if not apps.ready:
            django.setup()
        from pg_queue.tasks import tasks

        tasks()
        connections.close_all()  # no child may inherit a session
        gc.collect()
        gc.freeze()  # shared pages stay shared: the collector does not write into them
    finally:
        gc.enable()


# A supervisor may send SIGTERM or SIGHUP to the whole group, but when children end is for the worker to say. A handler,
# not SIG_IGN: that would be inherited by what tasks start.
for number in (signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, lambda number, stack: None)
with contextlib.suppress(Exception):
    _load()
