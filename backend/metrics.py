"""What Prometheus reads from the web process: the state of the whole, from the database, at each scrape, and what this
process alone has seen."""

from __future__ import annotations

import os
from collections.abc import Iterator

from django.db.models.functions import Now
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from pg_queue.api import QueueCollector
from pg_queue.models import Leader
from scheduler.api import MirrorFailure, PgPeriodicSchedule
from scheduler.metrics import MIRROR_FAILURES, ScheduleCollector


class OverviewCollector(Collector):
    """Schedules, leader and mirror. Raises `DatabaseError` when the database does not answer."""

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Its metric families."""
        yield from _schedules()
        yield from _leader()
        kept = MirrorFailure.objects.count()
        yield GaugeMetricFamily("downbeat_mirror_failures_kept", "Failed mirror writes on record.", value=kept)

    def describe(self) -> list[GaugeMetricFamily]:
        """Nothing: registering must not query the database."""
        return []


class OwnFailuresCollector(Collector):
    """Mirror writes that failed in this process, where REST and the admin make them.

    With the process id, because each scrape meets one web process of several: one series for all of them would jump
    between their counts, and every jump back would be read as a restart.
    """

    def collect(self) -> Iterator[CounterMetricFamily]:
        """The family `downbeat_mirror_failures`, by path and process."""
        for family in MIRROR_FAILURES.collect():
            own = CounterMetricFamily(family.name, family.documentation, labels=["path", "process"])
            for sample in family.samples:
                if sample.name.endswith("_total"):
                    own.add_metric([sample.labels["path"], str(os.getpid())], sample.value)
            yield own

    def describe(self) -> list[CounterMetricFamily]:
        """Nothing."""
        return []


def registry() -> CollectorRegistry:
    """The database's figures, and of the process's own those that no other process has."""
    registry = CollectorRegistry()
    for collector in (OverviewCollector(), OwnFailuresCollector(), QueueCollector(), ScheduleCollector()):
        registry.register(collector)
    return registry


def _schedules() -> Iterator[GaugeMetricFamily]:
    paused = PgPeriodicSchedule.objects.filter(enabled=False).count()
    yield GaugeMetricFamily("downbeat_schedules_paused", "Schedules that are paused.", value=paused)


def _leader() -> Iterator[GaugeMetricFamily]:
    term = GaugeMetricFamily("downbeat_leader_term", "Term of the leader.", labels=["election"])
    age = GaugeMetricFamily("downbeat_leader_heartbeat_age_seconds", "Age of its last stamp.", labels=["election"])
    resigned = GaugeMetricFamily("downbeat_leader_resigned", "1: it stopped in good order.", labels=["election"])
    for leader in Leader.objects.annotate(now=Now()):
        term.add_metric([leader.name], leader.term)
        resigned.add_metric([leader.name], float(leader.resigned_at is not None))
        if leader.heartbeat_at:
            age.add_metric([leader.name], (leader.now - leader.heartbeat_at).total_seconds())
    yield from (term, age, resigned)
