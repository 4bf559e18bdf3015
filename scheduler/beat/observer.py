"""Sees what a Celery Beat process sends, with any scheduler class, stock `DatabaseScheduler` included.

Celery calls the receivers here in Beat's own thread, before and after it publishes a message. A send of Beat is known
by the headers that Celery (`celery_beat_task`) and django-celery-beat (`periodic_task_name`) put on it. The receivers
do no I/O: a send is handed to the `Recorder`.

What was published is `sent`. What was about to be, and was not when the next one is, has `failed`: stock Beat logs it
and goes on. What was under way when the process ended is `claimed`: nobody knows.

Only a Beat process observes: it begins with Celery's `beat_init`, which an embedded Beat (`celery worker -B`) sends,
too.
"""

from __future__ import annotations

import atexit
import logging
import os
import socket
import threading
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from celery import signals

from scheduler.beat.recorder import Recorder
from scheduler.beat.sends import Process, Send, Tally
from scheduler.dialect import is_sqlite
from scheduler.domain import BeatMode, SendState
from scheduler.settings import scheduler_settings

logger = logging.getLogger(__name__)

_UID = "scheduler.observe_beat"


class Observer:
    """The receivers of one process. `seen` and `published` act in the thread that Beat runs in, and only there."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self._recorder = Recorder(process)
        self._thread = threading.get_ident()
        self._pending: Send | None = None
        self._is_suspended = False

    @property
    def tally(self) -> Tally:
        """What the process has sent so far."""
        return self._recorder.tally

    def start(self) -> None:
        """Begin to record, until the process ends."""
        signals.before_task_publish.connect(self.seen, dispatch_uid=_UID, weak=False)
        signals.after_task_publish.connect(self.published, dispatch_uid=_UID, weak=False)
        self._recorder.start()
        atexit.register(self.stop)

    def stop(self) -> None:
        """Record what waits, in at most 5 s, and stop. May be called twice."""
        signals.before_task_publish.disconnect(dispatch_uid=_UID)
        signals.after_task_publish.disconnect(dispatch_uid=_UID)
        self._hand_over(SendState.CLAIMED)
        self._recorder.close()
        atexit.unregister(self.stop)

    def seen(self, headers: Mapping[str, Any] | None = None, **_: object) -> None:
        """The receiver of `before_task_publish`."""
        send = self._read(headers or {})
        if send is not None:
            self._hand_over(SendState.FAILED)
            self._pending = send

    def published(self, headers: Mapping[str, Any] | None = None, **_: object) -> None:
        """The receiver of `after_task_publish`."""
        if self._pending is not None and (headers or {}).get("id") == self._pending.message_id:
            self._hand_over(SendState.SENT)

    @contextmanager
    def suspended(self) -> Iterator[None]:
        """Leaves out what is published in the block: its caller records that."""
        self._is_suspended = True
        try:
            yield
        finally:
            self._is_suspended = False

    def _hand_over(self, state: SendState) -> None:
        pending, self._pending = self._pending, None
        if pending is not None:
            self._recorder.add(replace(pending, state=state))

    def _read(self, headers: Mapping[str, Any]) -> Send | None:
        """The send that a message is; None: it is none of Beat's (a task's retry in an embedding worker keeps the
        headers of the first)."""
        name = headers.get("periodic_task_name")
        if self._is_suspended or threading.get_ident() != self._thread or headers.get("retries"):
            return None
        if not name and not headers.get("celery_beat_task"):
            return None
        return Send(
            beat_name=str(name or headers.get("task")),
            message_id=str(headers.get("id")),
            sent_at=datetime.now(UTC),
            is_entry=bool(name),
        )


_observer: Observer | None = None


def connect() -> None:
    """Have this process observed if it turns out to be Beat. Costs nothing where it is not."""
    signals.beat_init.connect(_begin, dispatch_uid=_UID)


def start(scheduler: object) -> Observer:
    """The process's observer, started with the first call. `scheduler` is Beat's."""
    global _observer  # one per process: Celery's signals are the process's, too
    if _observer is None or _observer.process.process_id != os.getpid():
        _observer = Observer(_describe(scheduler))
        _observer.start()
    return _observer


def stop() -> None:
    """Stop the process's observer, if there is one."""
    global _observer  # as above
    if _observer is not None:
        _observer.stop()
    _observer = None


def _begin(sender: Any, **_: object) -> None:
    if is_sqlite():
        logger.error("beat.not_observed reason=%r", "schedules are kept in SQLite, beside which Beat is not known")
        return
    observer = start(sender.scheduler)
    logger.info("beat.observed process=%s mode=%s", observer.process.id, observer.process.mode)
    if scheduler_settings().beat_mode == BeatMode.GATE and observer.process.mode != BeatMode.GATE:
        logger.error(
            "SCHEDULER['BEAT_MODE'] is 'gate', but this Beat only observes: expected the scheduler class "
            "'scheduler.beat.gate:DownbeatScheduler' (celery beat -S), got: %r",
            observer.process.scheduler,
        )


def _describe(scheduler: object) -> Process:
    kind = type(scheduler)
    return Process(
        id=uuid.uuid4(),
        host=socket.gethostname()[:255],
        process_id=os.getpid(),
        scheduler=f"{kind.__module__}:{kind.__qualname__}"[:255],
        mode=getattr(scheduler, "downbeat_mode", BeatMode.OBSERVE),
    )
