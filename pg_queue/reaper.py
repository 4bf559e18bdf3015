"""The reaper: duties done again and again, each isolated from the others, in bounded batches.

Any number of processes may reap at once: each batch skips the rows that another one holds.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

from django.db import close_old_connections, connections

from pg_queue.errors import DutyFailed
from pg_queue.health.metrics import CLAIMS_EXPIRED, REAPED, REAPER_FAILURES
from pg_queue.results.celery import celery_databases, retain_celery_results
from pg_queue.results.registry import result_store
from pg_queue.settings import queue_settings
from pg_queue.storage import store

logger = logging.getLogger(__name__)

ROUND_SECONDS = 5.0
"""Longest time that one duty may take of a round; what is left waits for the next."""
CELERY_SECONDS = 15.0
"""How often what Celery's result backend leaves behind is looked for, at most."""
QUIET_SECONDS = 30.0
"""What a duty did that comes round more often than this is worth a line to whoever debugs, not to every log."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Duty:
    """Something to be done again and again."""

    name: str
    every_seconds: float
    run: Callable[[], int]
    """Does one bounded batch in a transaction of its own and returns how many rows it dealt with. May raise."""
    batch: int = 1
    """`run` is called again at once while it returns at least this many."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """What one duty did in one round."""

    duty: str
    rows: int
    error: str | None = None
    """What it raised, after `rows` rows; None: nothing."""


def refuse_failed(rounds: Sequence[Round]) -> None:
    """For who makes one round and ends. Raises: DutyFailed where a duty failed."""
    if failed := [f"{done.duty} ({done.error})" for done in rounds if done.error]:
        raise DutyFailed(f"{len(failed)} of {len(rounds)} duties failed: {'; '.join(failed)}")


class DutyRounds:
    """Does duties when they are due. One thread's own."""

    def __init__(self, duties: Sequence[Duty], *, clock: Callable[[], float] = time.monotonic) -> None:
        """Raises: ValueError where two duties have one name."""
        self._clock = clock
        if len({duty.name for duty in duties}) < len(duties):
            names = ", ".join(sorted(duty.name for duty in duties))
            raise ValueError(f"duties: expected distinct names, got: {names}")
        self._due_at = {duty.name: clock() for duty in duties}
        self._duties = tuple(duties)

    def run_due(self) -> list[Round]:
        """Do each duty that is due; a failing one is logged and counted, and stops no other."""
        return [self._do(duty) for duty in self._duties if self._due_at[duty.name] <= self._clock()]

    def seconds_until_due(self) -> float:
        """Seconds until the next duty is due, 0 when one is."""
        return max(0.0, min(self._due_at.values(), default=0.0) - self._clock())

    def _do(self, duty: Duty) -> Round:
        rows, error, stop_at = 0, None, self._clock() + ROUND_SECONDS
        try:
            while True:
                done = duty.run()
                rows += done
                REAPED.labels(duty.name).inc(done)
                if done < duty.batch or self._clock() >= stop_at:
                    break
        except Exception as raised:
            error = f"{type(raised).__name__}: {raised}"
            REAPER_FAILURES.labels(duty.name).inc()
            logger.exception("reaper.duty_failed duty=%s", duty.name)
            close_old_connections()
        self._due_at[duty.name] = self._clock() + duty.every_seconds
        if rows:
            level = logging.INFO if duty.every_seconds > QUIET_SECONDS else logging.DEBUG
            logger.log(level, "reaper.duty_done duty=%s rows=%s", duty.name, rows)
        return Round(duty=duty.name, rows=rows, error=error)


class Reaper:
    """Makes the rounds in a thread of its own, on connections of its own, from `start` to `stop`."""

    def __init__(self, duties: Sequence[Duty]) -> None:
        self._rounds = DutyRounds(duties)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="reaper", daemon=True)

    def start(self) -> None:
        """Make the first round now, and go on."""
        self._thread.start()

    def stop(self, timeout_seconds: float = 10.0) -> None:
        """Finish the batch in hand and end; waits for it at most `timeout_seconds`."""
        self._stopping.set()
        self._thread.join(timeout_seconds)

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                self._rounds.run_due()
                self._stopping.wait(self._rounds.seconds_until_due())
        finally:
            connections.close_all()


Source = Callable[[], Sequence[Duty]]

_sources: dict[str, Source] = {}


def add_duties(app_label: str, source: Source) -> None:
    """Have every reaper do another app's duties too. To be called in that app's `AppConfig.ready`.

    `source` is asked when a reaper starts, so it may read settings. `run_reaper` then checks that app's settings and
    migrations as it does the queue's own. A second call for the same app replaces the first.
    """
    _sources[app_label] = source


def duty_apps() -> tuple[str, ...]:
    """Labels of the apps that `all_duties` come from."""
    return ("pg_queue", *_sources)


def all_duties() -> list[Duty]:
    """Everything that a reaper does: the queue's own duties, then those added by `add_duties`."""
    return [*queue_duties(), *(duty for source in _sources.values() for duty in source())]


def queue_duties() -> list[Duty]:
    """The queue's own duties at each of its stores: expired claims, what is past its time, workers long gone.

    Two aliases of one place have one set of them: a store's housekeeping serves all of its namespaces. And, where
    results are kept elsewhere, those that are past their time.
    """
    conf = queue_settings()
    places: dict[tuple[object, ...], str] = {}
    for alias, place in conf.places.items():
        places.setdefault((place.backend, place.database, place.url, repr(place.options)), alias)
    duties = [duty for alias in places.values() for duty in store_duties(alias)]
    if conf.results is not None:
        duties.append(Duty(name="retain_results", every_seconds=conf.reap_seconds, run=retain_results, batch=1))
    return [*duties, *celery_duties()] if celery_databases(conf) else duties


def celery_duties() -> list[Duty]:
    """What Celery's result backend leaves behind in the stores' databases."""
    conf = queue_settings()
    every, batch = max(CELERY_SECONDS, conf.reap_seconds), conf.reap_batch
    return [
        Duty(name="retain_celery_results", every_seconds=every, run=retain_celery_results, batch=batch),
        Duty(name="recover_chords", every_seconds=every, run=recover_chords),
    ]


def recover_chords() -> int:
    """Send the callbacks of chords whose workers were killed before they did; none where no Celery app is loaded."""
    if "celery" not in sys.modules:
        return 0
    from pg_queue.celery.backend.closing import recover_current_apps_chords

    return recover_current_apps_chords()


def store_duties(alias: str) -> list[Duty]:
    """The duties at one store. Those of another than `default` have its alias in their names."""
    conf = queue_settings()
    suffix = "" if alias == "default" else f":{alias}"
    return [
        Duty(name=f"{name}{suffix}", every_seconds=conf.reap_seconds, run=partial(run, alias), batch=conf.reap_batch)
        for name, run in _STORE_DUTIES.items()
    ]


def expire_claims(alias: str = "default") -> int:
    """Take back one batch of claims whose lease ran out."""
    expired = store(alias).expire_claims(limit=queue_settings().reap_batch)
    CLAIMS_EXPIRED.inc(expired)
    return expired


def retain_outcomes(alias: str = "default") -> int:
    """Delete one batch of outcomes and dead letters past their time to live."""
    return store(alias).retain(limit=queue_settings().reap_batch)


def forget_workers(alias: str = "default") -> int:
    """Delete one batch of rows of workers that are long gone."""
    conf = queue_settings()
    return store(alias).workers.forget(older_than=timedelta(seconds=conf.worker_ttl_seconds), limit=conf.reap_batch)


def retain_results() -> int:
    """Delete one batch of results past their time to live, and one of those that finished too long ago."""
    conf, results = queue_settings(), result_store()
    if conf.results is None or results is None:
        return 0
    deleted = results.expire(limit=conf.reap_batch)
    if not conf.results.clear_after_seconds:
        return deleted
    too_old = results.now() - timedelta(seconds=conf.results.clear_after_seconds)
    return deleted + results.clear(completed_before=too_old, limit=conf.reap_batch)


_STORE_DUTIES: dict[str, Callable[[str], int]] = {
    "expire_claims": expire_claims,
    "retain_outcomes": retain_outcomes,
    "forget_workers": forget_workers,
}
