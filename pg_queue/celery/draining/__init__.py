"""What waits at the broker that Celery had before, moved into the queue's tables while workers of both kinds run.

A message is **taken** at the source without being acknowledged, **stored** as the transport `downbeat://` would publish
it, in one transaction with a batch of others, and **acknowledged** only when that has committed. So none is lost:

- **Killed before the commit**: the source hands it over again, to a worker of Celery's or to the next drain.
- **Killed between the commit and the acknowledgement**: the source hands it over again, and it is known: the same
  transaction has noted the delivery, as an idempotency key that expires. It is acknowledged and not stored twice.

What is noted is the delivery, not the task: Celery sends a retry under the same task id, and a program may send a
second message under one. Those are messages of their own and go through.

- At **Redis**, kombu gives each message a tag when it is published, and keeps that whenever it is handed over again. A
  delivery is the queue, the tag, the task id, `retries` and the body; one is moved once.
- **RabbitMQ** has no such tag, but marks what it hands over again, and guarantees that what bears no mark was never
  handed over (its "Reliability Guide"). What bears none is moved whatever is known; what bears one is looked up by the
  queue, the task id, `retries`, the `eta` and the body.

What cannot be moved (no task message of protocol 2, an unknown content type, too large, refused by the database) is
kept unacknowledged, so that it holds up nobody, and goes back at the end. Nothing is ever rejected or deleted.
"""

from __future__ import annotations

from pg_queue.celery.draining.drain import Drain, QueueCount
from pg_queue.celery.draining.project import app_broker, app_exchanges, app_options, app_queues
from pg_queue.celery.draining.source import BrokerUnavailable, Source
from pg_queue.celery.draining.sources import open_source, shown_url
from pg_queue.celery.draining.storing import Destination

__all__ = [
    "BrokerUnavailable",
    "Destination",
    "Drain",
    "QueueCount",
    "Source",
    "app_broker",
    "app_exchanges",
    "app_options",
    "app_queues",
    "open_source",
    "shown_url",
]
