"""What Prometheus reads from the web process: the state of the whole, from the database, at each scrape."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from django.db.models import Count, Q
from django.db.models.functions import Now
from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from pg_queue import api as queue
from pg_queue.models import Leader
from scheduler.domain import Firer
from scheduler.models import MirrorFailure, PgPeriodicSchedule


class DatabaseCollector(Collector):
    """Reads every figure when it is asked. Raises `DatabaseError` when the database does not answer."""

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """The metric families, in the order of the reference."""
        for read in READERS:
            yield from read()


def registry() -> CollectorRegistry:
    """A registry with the database's figures only."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Undescribed())
    return registry


class _Undescribed(DatabaseCollector):
    def describe(self) -> list[Any]:
        """Nothing: registering must not query the database."""
        return []


def _queues() -> Iterator[GaugeMetricFamily]:
    messages = GaugeMetricFamily("downbeat_queue_messages", "Messages by queue and state.", labels=["queue", "state"])
    oldest = GaugeMetricFamily("downbeat_queue_oldest_due_seconds", "Age of the oldest due message.", labels=["queue"])
    for depth in queue.depths():
        for state in ("waiting", "delayed", "running", "dead"):
            messages.add_metric([depth.queue, state], getattr(depth, state))
        oldest.add_metric([depth.queue], depth.oldest_due_seconds)
    yield messages
    yield oldest


def _schedules() -> Iterator[GaugeMetricFamily]:
    rows = PgPeriodicSchedule.objects
    counts = rows.aggregate(
        all=Count("pk"), paused=Count("pk", Q(enabled=False)), quarantined=Count("pk", Q(quarantined_at__isnull=False))
    )
    yield GaugeMetricFamily("downbeat_schedules", "Schedules.", value=counts["all"])
    yield GaugeMetricFamily("downbeat_schedules_paused", "Schedules that are paused.", value=counts["paused"])
    yield GaugeMetricFamily("downbeat_schedules_quarantined", "Schedules in quarantine.", value=counts["quarantined"])
    yield GaugeMetricFamily("downbeat_due_lag_seconds", "How late the oldest due schedule is.", value=_due_lag())


def _due_lag() -> float:
    due = PgPeriodicSchedule.objects.filter(
        enabled=True, firer=Firer.PG.value, quarantined_at__isnull=True, next_run_at__lte=Now()
    )
    oldest = due.annotate(now=Now()).order_by("next_run_at").values_list("now", "next_run_at").first()
    return (oldest[0] - oldest[1]).total_seconds() if oldest else 0.0


def _leader() -> Iterator[GaugeMetricFamily]:
    term = GaugeMetricFamily("downbeat_leader_term", "Term of the leader.", labels=["election"])
    age = GaugeMetricFamily("downbeat_leader_heartbeat_age_seconds", "Age of its last stamp.", labels=["election"])
    leads = GaugeMetricFamily(
        "downbeat_leader_resigned", "1: the last leader stopped in good order.", labels=["election"]
    )
    for leader, now in ((row, row.now) for row in Leader.objects.annotate(now=Now())):
        term.add_metric([leader.name], leader.term)
        leads.add_metric([leader.name], float(leader.resigned_at is not None))
        if leader.heartbeat_at:
            age.add_metric([leader.name], (now - leader.heartbeat_at).total_seconds())
    yield from (term, age, leads)


def _mirror() -> Iterator[GaugeMetricFamily]:
    failures = MirrorFailure.objects.aggregate(all=Count("pk"), open=Count("pk", Q(repaired_at__isnull=True)))
    yield GaugeMetricFamily("downbeat_mirror_failures_kept", "Failed mirror writes on record.", value=failures["all"])
    yield GaugeMetricFamily("downbeat_mirror_failures_open", "Those not yet repaired.", value=failures["open"])


READERS: tuple[Callable[[], Iterator[GaugeMetricFamily]], ...] = (_queues, _schedules, _leader, _mirror)
