"""What became of a message whose end somebody waits for, told by the process in which its task has ended.

Celery acknowledges a message when it begins it, which says nothing of how it ends; and its signals come where the task
ran, not where the message was claimed. So such a message carries its claim (`CLAIM_HEADER`), and whoever ends it
settles it by that: the first one wins. A process that dies on the way leaves the lease to run out: the message is dead.
"""

from __future__ import annotations

import logging
from typing import Any

from celery import signals, states
from django.db import Error as DatabaseError
from django.db import connections

from pg_queue.celery.transport.broker import CLAIM_HEADER, read_claim
from pg_queue.celery.transport.holdings import REJECTED
from pg_queue.domain import Death, Failure, Settlement, Success
from pg_queue.errors import InvalidMessage
from pg_queue.payload import plain_result
from pg_queue.settings import StoreSettings, queue_settings
from pg_queue.storage.postgres import PostgresStore
from pg_queue.worker.execution import failure_of

logger = logging.getLogger(__name__)

RETRY_LOST = Failure(
    type="celery.retry_lost",
    message="no retry has taken the place of this message. Inside of transaction.atomic() self.retry() is rolled back "
    "with the block: call it outside",
)
TRIES = 2
"""The task may have broken the connection, or left it to time out; the second try has a new one."""


@signals.task_postrun.connect(weak=False, dispatch_uid="downbeat.outcomes.task_postrun")
def tell_end(sender: Any = None, task: Any = None, retval: Any = None, state: Any = None, **_: Any) -> None:
    """A task has ended here. One that is to be retried has published its retry, which took the message over: what is
    said of it here is not heard, unless that was rolled back."""
    claim = getattr(getattr(task, "request", None), CLAIM_HEADER, None)
    if claim is not None and (outcome := _outcome(task, retval, state)) is not None:
        settle(claim, outcome)


@signals.task_revoked.connect(weak=False, dispatch_uid="downbeat.outcomes.task_revoked")
def tell_revoked(sender: Any = None, request: Any = None, expired: bool = False, **_: Any) -> None:
    """A task was not begun, or was stopped."""
    claim = getattr(request, CLAIM_HEADER, None)
    if claim is not None:
        kind = "message.expired" if expired else "message.revoked"
        text = "it was begun after it had expired" if expired else "it was revoked"
        settle(claim, Death(failure=Failure(type=kind, message=text)))


def settle(claim: str, outcome: Success | Death) -> None:
    """Settle the message of this claim, if it still holds. Raises nothing: a worker must not fail by it."""
    message_id, token, alias = read_claim(claim)
    if message_id is None or token is None or alias not in connections.settings:
        return
    place = StoreSettings(alias=alias, database=alias)
    for left in reversed(range(TRIES)):
        try:
            settlement = Settlement(message_id=message_id, token=token, outcome=outcome)
            PostgresStore(queue_settings(), place).settle([settlement])
        except DatabaseError as error:
            connections[alias].close()
            if not left:
                logger.error("transport.outcome_lost message=%s dies when its lease ends; %s", message_id, error)
        else:
            return


def _outcome(task: Any, retval: Any, state: Any) -> Success | Death | None:
    """None: it has not ended, or its worker is about to say so itself."""
    if state == states.SUCCESS:
        return _success(task, retval)
    if state == states.FAILURE:
        return Death(failure=_failure(retval))
    if state == states.RETRY:
        return Death(failure=RETRY_LOST)
    if state == states.IGNORED:
        return Success(keep=False)
    if state == states.REJECTED and not task.acks_late:
        return Death(failure=REJECTED)
    return None


def _success(task: Any, retval: Any) -> Success:
    """With the value where the queue can keep it: a Celery result may be anything, and has a backend of its own."""
    if task.ignore_result:
        return Success(keep=False)
    try:
        return Success(value=plain_result(retval, max_bytes=queue_settings().max_result_bytes))
    except InvalidMessage:
        return Success()


def _failure(retval: Any) -> Failure:
    if isinstance(retval, BaseException):
        return failure_of(retval)
    return Failure(type="celery.failed", message=str(retval)[:1000])
