"""A store that wakes nobody."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

from pg_queue.domain import Capability
from pg_queue.storage.postgres import PostgresStore


class DeafStore(PostgresStore):
    """Its workers can only poll."""

    capabilities = PostgresStore.capabilities - {Capability.WAKE}

    def listen(self, queues: Sequence[str]) -> NoReturn:
        """Refused, as by any store that lacks it."""
        self._lack(Capability.WAKE)
