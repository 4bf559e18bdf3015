"""What a long-running process shows of itself: `/healthz`, `/readyz` and `/metrics` on a port of its own."""

from pg_queue.health.metrics import METRICS, QueueCollector
from pg_queue.health.readiness import Pulse, missing_migrations, problems
from pg_queue.health.server import HealthServer

__all__ = ["METRICS", "HealthServer", "Pulse", "QueueCollector", "missing_migrations", "problems"]
