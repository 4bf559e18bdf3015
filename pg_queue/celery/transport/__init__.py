"""Celery on PostgreSQL alone: a transport of Kombu on the queue's tables, `broker_url = "downbeat://"`.

A task message is an ordinary row (see `pg_queue.celery.envelope`), published on Django's connection and so in the
caller's transaction. A stock Celery worker claims rows as our own worker does, under a lease with a token:

- **Fetched**: claimed in batches, at most as many as the prefetch count leaves room for. The lease is renewed by a
  thread of its own (`Keeper`) for as long as the worker holds the message, whatever its main thread does.
- **Acknowledged**: settled, in batches, by token; the row is gone. A row whose end somebody waits for (a scheduler's
  run, a barrier, a key, continuations) is only noted as not to be handed over again; the process in which its task ends
  settles it with what became of it (`outcomes`).
- **Requeued, or not acknowledged when the connection closes**: it waits again, in its old place.
- **The worker is killed**: the lease runs out, and any consumer's keeper, or the reaper, lets the message wait again.
- **The server is lost**: Celery connects again. What its pool still runs stays held by the old connection's keeper, and
  is settled when it ends.

Replies, events and commands for one consumer are rows of an unlogged table, deleted when they are taken; queues and
bindings are rows too, and an exclusive queue is an advisory lock of its owner's session. Those are no part of the
caller's transaction: who asks workers something inside of one gets answers.
"""

from pg_queue.celery.transport.project import set_up

set_up()

from pg_queue.celery.transport import outcomes  # noqa: E402, F401 - they need the apps' models; its signals
from pg_queue.celery.transport.transport import Transport  # noqa: E402

__all__ = ["Transport"]
