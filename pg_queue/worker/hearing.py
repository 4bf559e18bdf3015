"""How a worker hears of new messages: by its store's listener, or not at all, and then it polls."""

from __future__ import annotations

from collections.abc import Sequence

from pg_queue.domain import Capability
from pg_queue.ports import Listener, QueueStore


def listener(store: QueueStore, queues: Sequence[str]) -> Listener:
    """What listens to these queues of the store."""
    return store.listen(queues) if Capability.WAKE in store.capabilities else Deaf()


class Deaf:
    """Implements `pg_queue.ports.Listener` for a store that wakes nobody."""

    def fileno(self) -> int | None:
        """There is never anything to hear."""
        return None

    def connect(self) -> bool:
        """There is nothing to connect to."""
        return False

    def hear(self) -> bool:
        """Nothing."""
        return False

    def close(self) -> None:
        """Nothing is open."""
