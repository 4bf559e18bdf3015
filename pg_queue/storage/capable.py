"""What every store says of the things that it cannot do: refused at once, and by name."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import TYPE_CHECKING, NoReturn

from django.db import connections

from pg_queue.domain import Capability, NewMessage
from pg_queue.errors import CapabilityMissing
from pg_queue.settings import StoreSettings

if TYPE_CHECKING:
    from pg_queue.ports import Barriers, Limits, Listener, Locks, Operations, Outbox, QueueStore, Switches


class Capable:
    """A base for stores: each optional port refuses, until the store overrides it and names the capability."""

    capabilities: frozenset[Capability] = frozenset()
    is_experimental = False
    """Whether it has yet to pass the contract's tests on a live server; `manage.py check` says so."""
    database: str | None = None
    """See the port. A store that is in a Django database says so here."""

    def __init__(self, place: StoreSettings) -> None:
        """Raises: CapabilityMissing for a namespace that the store cannot keep apart."""
        self.alias, self.namespace = place.alias, place.namespace
        if place.namespace:
            self.require(Capability.NAMESPACES)

    @property
    def place(self) -> str:
        """See the port. Of one in a Django database: `name at host:port`."""
        return self.alias if self.database is None else database_label(self.database)

    @property
    def barriers(self) -> Barriers:
        """See the port."""
        self._lack(Capability.BARRIERS)

    @property
    def outbox(self) -> Outbox:
        """See the port."""
        self._lack(Capability.EVENTS)

    @property
    def switches(self) -> Switches:
        """See the port."""
        self._lack(Capability.SWITCHES)

    @property
    def locks(self) -> Locks:
        """See the port."""
        self._lack(Capability.LOCKS)

    @property
    def limits(self) -> Limits:
        """See the port."""
        self._lack(Capability.LIMITS)

    @property
    def operations(self) -> Operations:
        """See the port."""
        self._lack(Capability.OPERATIONS)

    def within(self, namespace: str) -> QueueStore:
        """See the port."""
        self._lack(Capability.NAMESPACES)

    def listen(self, queues: Sequence[str]) -> Listener:
        """See the port."""
        self._lack(Capability.WAKE)

    def cancel(self, message_ids: Sequence[uuid.UUID], *, reason: str = "") -> set[uuid.UUID]:
        """See the port."""
        self._lack(Capability.CANCEL)

    def require(self, capability: Capability) -> None:
        """Raises: CapabilityMissing where the store lacks it."""
        if capability not in self.capabilities:
            self._lack(capability)

    def _check_demands(self, messages: Sequence[NewMessage]) -> None:
        """Refuse messages that ask for more than the store can do, before anything is stored."""
        for message in messages:
            if message.key is not None:
                self.require(Capability.KEYS)
            if message.on_success or message.on_failure:
                self.require(Capability.CONTINUATIONS)

    def _lack(self, capability: Capability) -> NoReturn:
        raise CapabilityMissing(self.alias, capability)


def database_label(alias: str) -> str:
    """The database as a log may show it: `name at host:port` without user and password, or a file's path."""
    parts = connections[alias].settings_dict
    if connections[alias].vendor == "sqlite":
        return str(parts["NAME"])
    return f"{parts['NAME']} at {parts['HOST'] or 'local socket'}:{parts['PORT'] or 5432}"
