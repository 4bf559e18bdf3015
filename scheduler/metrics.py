"""The scheduler's metrics, in the queue's registry. Counters are this process's own; the rest is read when scraped."""

from __future__ import annotations

import logging
from collections.abc import Iterator

from django.db import DatabaseError, InterfaceError, connections
from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from pg_queue.api import METRICS, Leadership
from scheduler.beat.mirror import FAILURES as MIRROR_FAILURES
from scheduler.settings import scheduler_settings
from scheduler.statements import statements
from scheduler.tick import Pass

__all__ = ["MIRROR_FAILURES", "ScheduleCollector", "note_lead", "note_pass"]

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

    def collect(self) -> Iterator[GaugeMetricFamily | CounterMetricFamily]:
        """Lag of the oldest due schedule, schedules in quarantine, open mirror failures, catches of the tripwire."""
        try:
            with connections[scheduler_settings().database].cursor() as cursor:
                cursor.execute(statements("ledger")["figures"])
                lag, quarantined, mirror_failures, catches = cursor.fetchone()
        except (DatabaseError, InterfaceError):
            logger.warning("metrics.figures_failed", exc_info=True)
            return
        yield GaugeMetricFamily("downbeat_due_lag_seconds", "Age of the oldest due schedule.", value=lag)
        yield GaugeMetricFamily("downbeat_schedules_quarantined", "Schedules that are set aside.", value=quarantined)
        yield GaugeMetricFamily("downbeat_mirror_failures_open", "Mirror writes to repair.", value=mirror_failures)
        yield CounterMetricFamily(
            "downbeat_tripwire_catches", "Writes that would have given a schedule of PG's back to Beat.", value=catches
        )

    def describe(self) -> list[GaugeMetricFamily]:
        """Nothing: registering must not query the database."""
        return []


METRICS.register(ScheduleCollector())
