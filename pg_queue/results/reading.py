"""What became of messages, for whoever asks: the queue's word on their end, and the store's on their value.

Of what the queue knows nothing (any more), Celery's result backend may: a stock Celery worker's results are there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from uuid import UUID

from django.db import DatabaseError, InterfaceError

from pg_queue.domain import TERMINAL_STATES, Message, MessageState
from pg_queue.errors import ResultNotKept, ResultsUnavailable, StoreUnavailable
from pg_queue.results.celery import get_celery_results
from pg_queue.results.domain import Result
from pg_queue.results.registry import result_store
from pg_queue.storage import store
from pg_queue.tasks import keeps_result
from pg_queue.validation import check_message_id, checked_ids


def get_results(message_ids: Iterable[UUID], *, using: str = "default") -> dict[UUID, Result]:
    """What became of these messages, by id, as `get_result` tells it; unknown and expired ones are left out.

    Of a fire-and-forget task there is the state, with `is_kept` False.

    The queue is asked first: a message that has ended there has its value in the store already. Raises:
    InvalidMessage (field `ids[…]`) for what is no UUID; ResultsUnavailable when either cannot be asked.
    """
    ids = list(dict.fromkeys(checked_ids("ids", message_ids)))
    found = _results(ids, _messages(ids, using), store(using).namespace)
    return found | _celery_results([one for one in ids if one not in found], using)


def get_result(message_id: UUID, *, using: str = "default") -> Result | None:
    """What became of a message, with what its task returned, wherever that is kept; None for an unknown or expired one.

    `using` is the alias of `PG_QUEUE["STORES"]` that it was enqueued into; of another tenant's it tells nothing.

    Raises: ResultNotKept for a message of a fire-and-forget task, unless it failed; ResultsUnavailable when the queue
    or the store of results cannot be asked, which says nothing of the message; InvalidMessage for what is no UUID.
    """
    check_message_id(message_id)
    messages = _messages([message_id], using)
    result = _results([message_id], messages, store(using).namespace).get(message_id)
    if message_id in messages and result and not result.is_kept and result.state is not MessageState.FAILED:
        task = messages[message_id].task
        if not keeps_result(task):
            raise ResultNotKept(f"message {message_id}: expected a task that keeps its results, got: {task!r}")
    return result or _celery_results([message_id], using).get(message_id)


def _results(ids: list[UUID], messages: Mapping[UUID, Message], namespace: str) -> dict[UUID, Result]:
    ended = [one for one in ids if one not in messages or messages[one].state in TERMINAL_STATES]
    elsewhere = result_store()
    found = elsewhere.get(ended) if elsewhere is not None and ended else {}
    kept = {one: result for one, result in found.items() if result.namespace == namespace}
    made = ((one, _result(messages.get(one), kept.get(one), is_elsewhere=elsewhere is not None)) for one in ids)
    return {message_id: replace(result, namespace=namespace) for message_id, result in made if result is not None}


def _celery_results(ids: list[UUID], using: str) -> dict[UUID, Result]:
    """What stock Celery workers executed: the queue knows nothing of it once it has ended."""
    try:
        return get_celery_results(ids, using=using)
    except (DatabaseError, InterfaceError) as error:
        raise ResultsUnavailable(f"Celery's results: {str(error).strip() or type(error).__name__}") from error


def _messages(ids: list[UUID], using: str) -> Mapping[UUID, Message]:
    try:
        return store(using).get(ids)
    except (DatabaseError, InterfaceError, StoreUnavailable) as error:
        raise ResultsUnavailable(f"the queue's store: {str(error).strip() or type(error).__name__}") from error


def _result(message: Message | None, kept: Result | None, *, is_elsewhere: bool) -> Result | None:
    if message is None:
        return kept
    result = Result(
        message_id=message.id,
        state=message.state,
        attempts=message.attempts,
        finished_at=message.finished_at,
        value=message.result,
        error=message.error,
        is_kept=keeps_result(message.task) or message.result is not None,
    )
    if message.state is not MessageState.SUCCEEDED or message.result is not None or not is_elsewhere:
        return result
    if kept is not None and kept.state is MessageState.SUCCEEDED:
        return replace(result, value=kept.value, is_kept=result.is_kept or kept.value is not None)
    return replace(result, is_kept=False)
