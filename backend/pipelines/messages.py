"""The messages that runs of pipelines have, whichever store executes them: a route may lead their queue to another."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Collection, Iterable, Mapping

from pg_queue import api as queue

logger = logging.getLogger(__name__)


def find_messages(
    ids: Collection[uuid.UUID], *, stores: Iterable[str] | None = None
) -> tuple[Mapping[uuid.UUID, queue.Message], bool]:
    """The messages of these ids, and whether every store has been asked: else one that is not there may still be.

    One that is routed away and has not left yet waits. `stores`: aliases of those that are asked besides `default`;
    None: all there are.

    Raises: what the store `default` raises. Another one that does not answer is logged.
    """
    found = queue.get_messages(ids)
    is_complete = True
    outgoing = queue.get_outgoing([one for one in ids if one not in found])  # first: it leaves for a store
    for alias in queue.queue_settings().places if stores is None else stores:
        missing = [one for one in ids if one not in found]
        if alias == "default" or not missing:
            continue
        try:
            found |= queue.get_messages(missing, using=alias)
        except Exception:  # a store's own errors are many; whatever it is, the others are asked
            logger.exception("pipelines.store_not_asked store=%s", alias)
            is_complete = False
    return {**outgoing, **found}, is_complete


def is_current(message: queue.Message) -> bool:
    """Whether this is the execution that the queue knows: no later one was claimed, and it has not ended."""
    known = find_messages([message.id])[0].get(message.id)
    return (
        known is not None
        and known.state is queue.MessageState.RUNNING
        and (known.attempts, known.started_at) == (message.attempts, message.started_at)
    )
