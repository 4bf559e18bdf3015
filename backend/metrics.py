"""What Prometheus reads from the web process: the state of the whole, from the database, at each scrape."""

from __future__ import annotations

from collections.abc import Iterator

from django.db.models import Count, Q
from django.db.models.functions import Now
from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from pg_queue.api import QueueCollector
from pg_queue.models import Leader
from scheduler.api import MirrorFailure, PgPeriodicSchedule
from scheduler.metrics import ScheduleCollector


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


def registry() -> CollectorRegistry:
    """The database's figures only: counters of one web process among several would mislead."""
    registry = CollectorRegistry()
    for collector in (OverviewCollector(), QueueCollector(), ScheduleCollector()):
        registry.register(collector)
    return registry


def _schedules() -> Iterator[GaugeMetricFamily]:
    counts = PgPeriodicSchedule.objects.aggregate(all=Count("pk"), paused=Count("pk", Q(enabled=False)))
    yield GaugeMetricFamily("downbeat_schedules", "Schedules.", value=counts["all"])
    yield GaugeMetricFamily("downbeat_schedules_paused", "Schedules that are paused.", value=counts["paused"])


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
