"""A process that puts outcomes of the same messages again and again: `python -m tests.contract.results.hammer SEED`.

Each message gets the outcomes of `EXECUTIONS` executions, each twice, in an order
of its own, in batches that overlap.
"""

from __future__ import annotations

import random
import sys
import uuid
from datetime import UTC, datetime, timedelta

from pg_queue.domain import MessageState
from pg_queue.results.domain import Outcome
from pg_queue.results.ports import ResultStore

IDS = [uuid.UUID(int=number + 1) for number in range(12)]
EXECUTIONS = 8
BEGUN = datetime(2030, 1, 1, tzinfo=UTC)


def outcome(message_id: uuid.UUID, execution: int, **fields: object) -> Outcome:
    """What execution number `execution` returned: its number."""
    values: dict[str, object] = {
        "state": MessageState.SUCCEEDED,
        "attempts": execution,
        "started_at": BEGUN + timedelta(microseconds=execution),
        "value": {"execution": execution},
    }
    return Outcome(message_id=message_id, **{**values, **fields})  # type: ignore[arg-type]


def hammer(store: ResultStore, seed: int) -> None:
    """Put all of them."""
    chance = random.Random(seed)
    outcomes = [outcome(message_id, n) for message_id in IDS for n in range(1, EXECUTIONS + 1) for _ in range(2)]
    chance.shuffle(outcomes)
    while outcomes:
        size = chance.randint(1, 20)
        store.put(outcomes[:size])
        del outcomes[:size]


def main() -> None:
    """Set Django up, wait, hammer."""
    import django

    django.setup()
    from pg_queue.results.registry import result_store

    store = result_store()
    assert store is not None
    store.now()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    hammer(store, int(sys.argv[1]))


if __name__ == "__main__":
    main()
