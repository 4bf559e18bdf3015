"""The queue's metrics. Counters are this process's own; depths are read from the database at each scrape."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence

from django.db import DatabaseError, InterfaceError
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from pg_queue.domain import Capability
from pg_queue.errors import QueueError
from pg_queue.ports import QueueDepth
from pg_queue.settings import queue_settings
from pg_queue.storage import store

logger = logging.getLogger(__name__)

METRICS = CollectorRegistry()
"""The queue's own registry; `/metrics` shows it together with prometheus_client's default one."""

TASKS = Counter(
    "downbeat_tasks", "Executions by what became of them: done, retrying, dead, lost.", ["outcome"], registry=METRICS
)
RUNNING = Gauge("downbeat_worker_running", "Claims that this worker holds.", registry=METRICS)
CHILD_EXITS = Counter(
    "downbeat_worker_child_exits", "Child processes that ended unasked or were killed.", ["why"], registry=METRICS
)
CLAIM_SECONDS = Histogram("downbeat_claim_seconds", "Duration of one claim of a batch.", registry=METRICS)
SETTLE_SECONDS = Histogram("downbeat_settle_seconds", "Duration of settling one batch.", registry=METRICS)
RESULTS_SECONDS = Histogram(
    "downbeat_results_seconds", "Duration of putting one batch of results into their store.", registry=METRICS
)
RESULTS_ERRORS = Counter(
    "downbeat_worker_results_errors", "Batches of results that their store did not take.", registry=METRICS
)
DATABASE_ERRORS = Counter(
    "downbeat_worker_database_errors", "Failed statements of the worker itself.", ["doing"], registry=METRICS
)
REAPED = Counter("downbeat_reaper_rows", "Rows that a duty of the reaper dealt with.", ["duty"], registry=METRICS)
REAPER_FAILURES = Counter("downbeat_reaper_failures", "Rounds of a duty that failed.", ["duty"], registry=METRICS)
CLAIMS_EXPIRED = Counter("downbeat_claims_expired", "Claims taken back because their lease ran out.", registry=METRICS)
RELAYED = Counter(
    "downbeat_relayed", "Messages that a target has taken which their queue is routed to.", ["topic"], registry=METRICS
)
RELAY_DEFERRED = Counter(
    "downbeat_relay_deferred", "Attempts to send a message that came to nothing: it waits.", ["topic"], registry=METRICS
)


class QueueCollector(Collector):
    """Messages by store, queue and state, and the age of the oldest due one, read when asked.

    A store that does not answer is left out: the others, and the process's own counters, are still worth a scrape.
    """

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """The families `downbeat_queue_messages` and `downbeat_queue_oldest_due_seconds`."""
        messages = GaugeMetricFamily(
            "downbeat_queue_messages", "Messages by queue and state.", labels=["store", "queue", "state"]
        )
        oldest = GaugeMetricFamily(
            "downbeat_queue_oldest_due_seconds", "Age of the oldest due message.", labels=["store", "queue"]
        )
        for alias in queue_settings().places:
            for depth in _depths(alias):
                for state in ("waiting", "delayed", "running", "dead"):
                    messages.add_metric([alias, depth.queue, state], getattr(depth, state))
                oldest.add_metric([alias, depth.queue], depth.oldest_due_seconds)
        yield messages
        yield oldest

    def describe(self) -> list[GaugeMetricFamily]:
        """Nothing: registering must not query the database."""
        return []


def _depths(alias: str) -> Sequence[QueueDepth]:
    try:
        return store(alias).depths()
    except (DatabaseError, InterfaceError, QueueError):
        logger.warning("metrics.depths_failed store=%s", alias, exc_info=True)
        return []


class OutboxCollector(Collector):
    """What waits in the outbox, by topic, read when asked; left out when the database does not answer."""

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """The families `downbeat_outbox_events`, `downbeat_outbox_failing` and `downbeat_outbox_oldest_seconds`."""
        if Capability.EVENTS not in store().capabilities:
            return
        events = GaugeMetricFamily("downbeat_outbox_events", "Events that wait to be relayed.", labels=["topic"])
        failing = GaugeMetricFamily(
            "downbeat_outbox_failing", "Those among them that were put off at least once.", labels=["topic"]
        )
        oldest = GaugeMetricFamily("downbeat_outbox_oldest_seconds", "Age of the oldest event.", labels=["topic"])
        try:
            backlog = store().outbox.backlog()
        except (DatabaseError, InterfaceError, QueueError):
            logger.warning("metrics.backlog_failed", exc_info=True)
            return
        for one in backlog:
            events.add_metric([one.topic], one.waiting)
            failing.add_metric([one.topic], one.failing)
            oldest.add_metric([one.topic], one.oldest_seconds)
        yield from (events, failing, oldest)

    def describe(self) -> list[GaugeMetricFamily]:
        """Nothing: registering must not query the database."""
        return []


METRICS.register(QueueCollector())
METRICS.register(OutboxCollector())
