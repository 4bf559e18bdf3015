"""The queue's tables. Their rows are the engine's: written by `pg_queue.storage`, read by anyone.

A message row exists while there is work to do. Settling deletes it and leaves a result; a last failure leaves a dead
letter beside the result, which keeps everything that a replay needs. So the hot table stays as small as the backlog.
"""

from pg_queue.models.broker import Binding, Broadcast, BrokerQueue
from pg_queue.models.celery_results import CeleryChord, CeleryChordPart, CeleryGroup, CeleryResult
from pg_queue.models.coordination import Leader, Limit, Lock, Operation, Switch, Worker
from pg_queue.models.messages import Barrier, BarrierPlan, DeadLetter, Event, Key, Message, Result

__all__ = [
    "Barrier",
    "BarrierPlan",
    "Binding",
    "Broadcast",
    "BrokerQueue",
    "CeleryChord",
    "CeleryChordPart",
    "CeleryGroup",
    "CeleryResult",
    "DeadLetter",
    "Event",
    "Key",
    "Leader",
    "Limit",
    "Lock",
    "Message",
    "Operation",
    "Result",
    "Switch",
    "Worker",
]
