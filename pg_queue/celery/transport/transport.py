"""The transport: connections of kombu, each with its channels, its consumption, and a place in kombu's event loop."""

from __future__ import annotations

import select
import threading
from time import monotonic
from typing import Any

import psycopg
from amqp.exceptions import ChannelError as AmqpChannelError
from django.db import InterfaceError, OperationalError, connections
from kombu.exceptions import ChannelError
from kombu.transport import virtual

from pg_queue.celery.transport.address import Address, resolve
from pg_queue.celery.transport.broker import Publisher
from pg_queue.celery.transport.channel import Channel
from pg_queue.celery.transport.consumption import Consumption
from pg_queue.celery.transport.sessions import check

_declared: set[tuple[str, str, tuple[str | None, ...]]] = set()
"""Lasting queues and bindings that this process has written down, by place: each is written once per process."""
_declared_lock = threading.Lock()


class Transport(virtual.Transport):  # type: ignore[misc]  # kombu has no types
    """`broker_url = "downbeat://"`; see the package."""

    Channel = Channel
    can_parse_url = True
    default_port = None
    polling_interval = None
    driver_type = driver_name = "downbeat"
    connection_errors = (OperationalError, InterfaceError, psycopg.OperationalError, psycopg.InterfaceError, OSError)
    channel_errors = (ChannelError, AmqpChannelError)
    implements = virtual.Transport.implements.extend(
        asynchronous=True, exchange_type=frozenset(["direct", "topic", "fanout"]), heartbeats=False
    )

    def __init__(self, client: Any, **kwargs: Any) -> None:
        """Raises: Configuration, when the URL or an option is wrong."""
        super().__init__(client, **kwargs)
        self.address: Address = resolve(
            client.hostname or "", client.transport_options or {}, connect_timeout=client.connect_timeout
        )
        self.publisher = Publisher(self.address)
        self.consumption = Consumption(self.address, lambda: tuple(self.channels))
        self._in_loop: LoopEntry | None = None

    def driver_version(self) -> str:
        """Of psycopg."""
        return psycopg.__version__

    def as_uri(self, uri: str, include_password: bool = False, mask: str = "**") -> str:
        """The URL as it may be shown."""
        from kombu.utils.url import sanitize_url

        full = f"{self.client.uri_prefix}+{uri}" if self.client.uri_prefix else uri
        if include_password or "@" not in full:
            return full
        return str(sanitize_url(full, mask))

    def establish_connection(self) -> Transport:
        """Make sure that the server answers and has the tables; who is inside a transaction there knows that already.

        Raises: OperationalError, which a worker takes for a broker that is down, and tries again.
        """
        if not connections[self.address.alias].in_atomic_block:
            check(self.address)
        connection: Transport = super().establish_connection()
        return connection

    def close_connection(self, connection: Transport) -> None:
        """Close its channels, each of which gives back what is not acknowledged."""
        super().close_connection(connection)
        if self._in_loop is not None:
            self._in_loop.leave()
            self._in_loop = None
        self.consumption.close()

    def verify_connection(self, connection: Transport) -> bool:
        """Whether it can still be used."""
        return connection.consumption.is_usable

    # Declared once per process

    def is_new(self, what: tuple[str | None, ...]) -> bool:
        """Whether this process has not written `what` down yet; it has from now on."""
        key = (self.address.alias, self.address.place.namespace, what)
        with _declared_lock:
            if key in _declared:
                return False
            _declared.add(key)
            return True

    def forget_declared(self, what: tuple[str | None, ...]) -> None:
        """It was deleted."""
        with _declared_lock:
            _declared.discard((self.address.alias, self.address.place.namespace, what))
            if what[0] == "queue":
                gone = {
                    one
                    for one in _declared
                    if one[:2] == (self.address.alias, self.address.place.namespace) and one[2][:2] == ("bind", what[1])
                }
                _declared.difference_update(gone)

    # Consuming

    def drain_events(self, connection: Transport, timeout: float | None = None) -> None:
        """Hand over one message, waiting for it at most `timeout` seconds (None: for ever). Raises: TimeoutError."""
        deadline = None if timeout is None else monotonic() + timeout
        consumption = connection.consumption
        while True:
            consumption.hear()
            if consumption.is_due() and consumption.work(self._deliver, limit=1):
                return
            left = 3600.0 if deadline is None else deadline - monotonic()
            if left <= 0:
                raise TimeoutError("no message has come")
            consumption.wait(left)

    def register_with_event_loop(self, connection: Transport, loop: Any) -> None:
        """Work whenever the loop finds something to hear, a word of another thread, or that it is time."""
        self._in_loop = LoopEntry(connection.consumption, loop, self._deliver)


class LoopEntry:
    """A connection's place in kombu's event loop.

    All work is done when a descriptor is readable. In a tick, just before the loop waits, nothing may be handed over:
    the worker's pool would see it only when the loop has waited. So a tick that finds work wakes the loop instead.
    """

    def __init__(self, consumption: Consumption, loop: Any, deliver: Any) -> None:
        self._consumption, self._loop, self._handle = consumption, loop, deliver
        self._timer: Any = None
        self._timer_at = 0.0
        self._fd: int | None = None
        consumption.is_in_loop = True
        loop.add_reader(consumption.waker, self._work)
        loop.on_tick.add(self._tick)

    def leave(self) -> None:
        """The connection is closed."""
        self._loop.on_tick.discard(self._tick)
        for fd in (self._fd, self._consumption.waker.fileno()):
            if fd is not None and fd >= 0:
                self._loop.remove(fd)
        if self._timer is not None:
            self._timer.cancel()

    def _work(self) -> None:
        if self._consumption.is_closed:
            return
        self._consumption.hear()
        seconds = self._consumption.seconds_to_gather() if self._consumption.is_due() else 0.0
        if seconds and self._has_others_due(seconds):
            self._consumption.waker.wake()  # the loop comes back here when it has dealt with them
            return
        self._consumption.work(self._handle)
        self._call_at()

    def _has_others_due(self, seconds: float) -> bool:
        """Whether the loop finds other work than ours within so long: the pool's, for the most part."""
        poller = select.poll()
        for entries, event in ((self._loop.readers, select.POLLIN), (self._loop.writers, select.POLLOUT)):
            for fd in entries:
                if fd not in {self._fd, self._consumption.waker.fileno()}:
                    poller.register(fd, event)
        return bool(poller.poll(seconds * 1000))

    def _tick(self) -> None:
        if not self._consumption.has_consumers:
            return
        fd = self._consumption.session.fileno()
        if fd != self._fd or fd not in self._loop.readers:
            self._loop.add_reader(fd, self._work)
            self._fd = fd
        if self._consumption.is_due():
            self._consumption.waker.wake()

    def _call_at(self) -> None:
        """The loop may wait for ten seconds; what is due before wakes it."""
        at = self._consumption.due_at
        if at == self._timer_at:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = at
        self._timer = self._loop.call_later(max(0.0, at - monotonic()), self._consumption.waker.wake)
