"""The relay: what a transaction here has put into the outbox for another system, brought there.

A message whose queue is routed away (`PG_QUEUE["ROUTES"]`) is not stored as a message here but as an event of the
outbox, by the transaction that would have stored it. The event's id and key are the message's id. Its topic names the
target: another store, or the broker of a Celery app. From there on:

1. A relay leases a batch of one topic's events. Nobody else gets them until the lease runs out.
2. It sends them one after the other. What the target refuses is put off alone, with a delay that doubles; after a
   failure the target is asked whether it answers at all, and when it does not, the rest of the batch is put off.
3. It confirms what was taken: the events are deleted, and whoever follows them is told, in one transaction.

Killed before 3, it leaves the lease to run out, and the batch is sent again: at least once on the wire. The message
carries its id each time (a store: as idempotency key; Celery: as task id), so that a store keeps it once, and a
consumer of a broker can tell the repetition. Nothing is ever given up.

Each topic has a thread and a connection of its own: a target that does not answer holds up nothing but itself. The
process that leads relays, so that two do not both poll; a relay that goes on after its lead was lost does no harm,
because a lease has one holder.

| module | duty |
|---|---|
| `dispatch` | into the outbox or the queue, by the route |
| `targets` | what a topic names, and sending to another store |
| `followers` | who is told what was taken, and what has become of it |
| `courier` | one topic: lease, send, confirm or put off |
| `outgoing` | what has not left yet, as messages |
| `service` | a courier per topic, each in a thread, from `start` to `stop` |

Sending to Celery is in `pg_queue.celery.sending`, because celery is imported there only.
"""

from pg_queue.relay.dispatch import dispatch
from pg_queue.relay.followers import Follower, follow
from pg_queue.relay.outgoing import get_outgoing
from pg_queue.relay.service import Relay

__all__ = ["Follower", "Relay", "dispatch", "follow", "get_outgoing"]
