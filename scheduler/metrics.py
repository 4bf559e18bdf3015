"""The scheduler's metrics, in the queue's registry. Counters are this process's own; the rest is read when scraped."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import UTC, datetime

from django.db import DatabaseError, InterfaceError, connections
from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from pg_queue.api import METRICS, Leadership, as_instant
from scheduler.beat.mirror import FAILURES as MIRROR_FAILURES
from scheduler.dialect import is_sqlite
from scheduler.domain import SendState
from scheduler.querysets import BEAT_ALIVE
from scheduler.reconciliation import DRIFT as MIRROR_DRIFT
from scheduler.settings import scheduler_settings
from scheduler.statements import statements
from scheduler.tick import Pass

__all__ = ["MIRROR_DRIFT", "MIRROR_FAILURES", "ScheduleCollector", "note_lead", "note_pass"]

logger = logging.getLogger(__name__)

IS_LEADER = Gauge("downbeat_scheduler_is_leader", "1 while this process leads.", registry=METRICS)
TERM = Gauge("downbeat_scheduler_term", "The term that this process leads or led last.", registry=METRICS)
LEADER_ERRORS = Counter(
    "downbeat_scheduler_session_losses", "Leader sessions that ended by an error.", registry=METRICS
)
OCCURRENCES = Counter(
    "downbeat_occurrences",
    "Due schedules by what the tick made of them: fired, coalesced (fired for missed ones too), expired, skipped (the "
    "run before goes on), held (until it ends), taken (by another leader).",
    ["outcome"],
    registry=METRICS,
)
SHADOWED = Counter(
    "downbeat_shadow_occurrences", "Occurrences of Beat's schedules that the tick would have fired.", registry=METRICS
)
QUARANTINED = Counter("downbeat_quarantined", "Schedules set aside because they cannot be fired.", registry=METRICS)
BATCH_SECONDS = Histogram("downbeat_tick_batch_seconds", "Duration of one transaction of the tick.", registry=METRICS)


def note_lead(leadership: Leadership | None) -> None:
    """The lead was won, or is gone."""
    IS_LEADER.set(0 if leadership is None else 1)
    if leadership is not None:
        TERM.set(leadership.term)


def note_pass(made: Pass) -> None:
    """Count what a pass did."""
    for outcome in ("fired", "coalesced", "expired", "skipped", "held", "taken"):
        if count := getattr(made, outcome):
            OCCURRENCES.labels(outcome).inc(count)
    QUARANTINED.inc(len(made.quarantined))
    for seconds in made.batch_seconds:
        BATCH_SECONDS.observe(seconds)


def note_shadow(made: Pass) -> None:
    """Count what a pass in shadow would have fired."""
    SHADOWED.inc(made.fired)
    QUARANTINED.inc(len(made.quarantined))


class ScheduleCollector(Collector):
    """What the database says of the schedules, read when asked; left out when it does not answer."""

    def collect(self) -> Iterator[Metric]:
        """Lag of the oldest due schedule, schedules in quarantine, mirror failures and drift; and Celery Beat's."""
        try:
            if is_sqlite():
                yield from _sqlite_figures()
                return
            with connections[scheduler_settings().database].cursor() as cursor:
                cursor.execute(statements("ledger")["figures"])
                lag, quarantined, mirror_failures, catches, drift = cursor.fetchone()
                cursor.execute(statements("beat_sends")["figures"], {"alive_seconds": BEAT_ALIVE.total_seconds()})
                beats, unknown = cursor.fetchone()
                cursor.execute(statements("beat_sends")["tallies"])
                tallies = cursor.fetchall()
                cursor.execute(statements("cutover")["figures"])
                firers = cursor.fetchall()
        except (DatabaseError, InterfaceError):
            logger.warning("metrics.figures_failed", exc_info=True)
            return
        yield GaugeMetricFamily("downbeat_due_lag_seconds", "Age of the oldest due schedule.", value=lag)
        yield GaugeMetricFamily("downbeat_schedules_quarantined", "Schedules that are set aside.", value=quarantined)
        yield GaugeMetricFamily("downbeat_mirror_failures_open", "Mirror writes to repair.", value=mirror_failures)
        yield GaugeMetricFamily("downbeat_mirror_drift_open", "Differences from Beat's rows to repair.", value=drift)
        yield CounterMetricFamily(
            "downbeat_tripwire_catches", "Writes that would have given a schedule of PG's back to Beat.", value=catches
        )
        yield GaugeMetricFamily("downbeat_beat_processes", "Celery Beat processes that live.", value=beats)
        yield GaugeMetricFamily("downbeat_beat_unknown_sends", "Claims of Beats that are gone.", value=unknown)
        yield from _sends(tallies)
        yield from _firers(firers)

    def describe(self) -> list[Metric]:
        """Nothing: registering must not query the database."""
        return []


def _sqlite_figures() -> list[Metric]:
    """What there is to tell where nothing of Celery Beat is known."""
    with connections[scheduler_settings().database].cursor() as cursor:
        cursor.execute(statements("ledger", "sqlite")["figures"])
        due_at, quarantined, schedules = cursor.fetchone()
    try:
        lag = 0.0 if due_at is None else max(0.0, (datetime.now(UTC) - as_instant(str(due_at))).total_seconds())
    except ValueError:  # SQLite keeps what is no instant, too: the tick sets it aside
        lag = 0.0
    return [
        GaugeMetricFamily("downbeat_due_lag_seconds", "Age of the oldest due schedule.", value=lag),
        GaugeMetricFamily("downbeat_schedules_quarantined", "Schedules that are set aside.", value=quarantined),
        *_firers([("pg", schedules, 0)]),
    ]


def _sends(tallies: list[tuple[str, int, int, int, int]]) -> Iterator[Metric]:
    """By process, so that each is a counter of its own: it ends with its process."""
    sends = CounterMetricFamily("downbeat_beat_sends", "Sends of Celery Beat.", labels=["process", "state"])
    lost = CounterMetricFamily("downbeat_beat_lost_sends", "Sends of Celery Beat not recorded.", labels=["process"])
    for process, sent, refused, failed, unrecorded in tallies:
        for state, count in ((SendState.SENT, sent), (SendState.REFUSED, refused), (SendState.FAILED, failed)):
            sends.add_metric([process, state.value], count)
        lost.add_metric([process], unrecorded)
    yield from (sends, lost)


def _firers(counts: list[tuple[str, int, int]]) -> Iterator[Metric]:
    schedules = GaugeMetricFamily("downbeat_schedules", "Schedules, by who fires them.", labels=["firer"])
    waiting = GaugeMetricFamily("downbeat_handovers_waiting", "Hand-overs under way, by new firer.", labels=["to"])
    for firer, fired, wait in counts:
        schedules.add_metric([firer], fired)
        waiting.add_metric([firer], wait)
    yield from (schedules, waiting)


METRICS.register(ScheduleCollector())
