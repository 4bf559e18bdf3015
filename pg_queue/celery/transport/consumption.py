"""How messages get to the consumers of one connection: claimed in batches, handed over one by one, and waited for.

Who consumes calls `work` in its own thread, whenever `is_due`. In between it waits on two descriptors: that of the
session, which is readable after a NOTIFY, and that of a waker, which other threads write to. Nothing depends on either:
after `poll_seconds` the queues are asked anyway.
"""

from __future__ import annotations

import logging
import os
import select
import socket
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any

from django.db import Error as DatabaseError

from pg_queue.celery.envelope import CELERY, read_payload
from pg_queue.celery.transport.address import Address
from pg_queue.celery.transport.broker import CLAIM_HEADER, Broker, claim_header, fresh_tag
from pg_queue.celery.transport.holdings import Holding, Holdings, Keeper, Word
from pg_queue.celery.transport.sessions import OwnSession, store_on
from pg_queue.celery.transport.waker import Waker
from pg_queue.domain import Claim, Message
from pg_queue.storage.postgres import PostgresStore
from pg_queue.storage.rows import waker as waker_of

logger = logging.getLogger(__name__)

if TYPE_CHECKING:
    from pg_queue.celery.transport.channel import Channel

QUEUE = "downbeat_queue"
"""Of a broadcast's delivery: the queue that it was taken from."""
MOST_AT_ONCE = 100
"""Messages that one statement claims, where the prefetch count allows as many."""

SOON_SECONDS = 0.05
"""Before the queues are asked again where a message is due that a claim has not given: it became due just now, or a
limit keeps it."""
GATHER_SECONDS = 0.01
"""How long a worker's event loop gathers what its pool says, before a statement is spent on it."""
GATHER_MOST = 50
"""Words that are worth a statement at once."""
OWN_TRIES, OWN_SECONDS = 5, 0.05
"""How often, and how far apart, an exclusive queue is asked for."""


@dataclass(slots=True, kw_only=True)
class Delivery:
    """What waits to be handed over to a consumer of this process."""

    channel: Channel
    queue: str
    payload: dict[str, Any]
    holding: Holding | None
    """None: it was taken from a transient queue, and is nobody's any more."""


class Consumption:
    """One connection's consumers. One thread's own, but for `say`."""

    def __init__(self, address: Address, channels: Callable[[], Iterable[Channel]]) -> None:
        self._address, self._channels = address, channels
        self.holdings, self.waker = Holdings(), Waker()
        self._keeper = Keeper(address, self.holdings, queues=self._expiring)
        self._session: OwnSession | None = None
        self._store: PostgresStore | None = None
        self._broker: Broker | None = None
        self._is_listening = self._is_kept = self._is_closed = False
        self._ready: deque[Delivery] = deque()
        self._owned: set[str] = set()
        self._hungry, self._has_heard, self._due_at = True, True, 0.0
        self._gathers_until = 0.0
        self._thread: int | None = None
        self._is_delivering = self.is_in_loop = False
        self._worker = f"{socket.gethostname()}:{os.getpid()}:celery"

    # The session

    @property
    def is_usable(self) -> bool:
        """False once it was closed, or its session was lost."""
        return not self._is_closed and not self.is_lost

    @property
    def is_lost(self) -> bool:
        """Whether the server is gone: what was not acknowledged could not be given back."""
        return self._session is not None and not self._session.is_open

    @property
    def is_closed(self) -> bool:
        """Whether it was closed."""
        return self._is_closed

    @property
    def due_at(self) -> float:
        """When the queues are to be asked again, whatever is heard; as `time.monotonic` counts."""
        return self._due_at

    @property
    def has_consumers(self) -> bool:
        """Whether anybody consumes."""
        return self._is_listening

    @property
    def session(self) -> OwnSession:
        """Opened when it is first needed. Raises: Django's OperationalError, also when it was lost."""
        if self._session is None:
            self._session = OwnSession(self._address, name="downbeat broker")
            self._store = store_on(self._session, self._address)
            self._broker = Broker(self._session, self._address.place.namespace)
        return self._session

    @property
    def store(self) -> PostgresStore:
        """On that session."""
        _ = self.session
        assert self._store is not None
        return self._store

    @property
    def broker(self) -> Broker:
        """On that session."""
        _ = self.session
        assert self._broker is not None
        return self._broker

    def consumers_changed(self) -> None:
        """Somebody has begun to consume, or ceased to."""
        is_needed = any(channel.active_queues for channel in self._channels())
        if is_needed and not self._is_listening:
            self.session.listen(True)
        elif self._is_listening and not is_needed and not self.is_lost:
            self.session.listen(False)
        if is_needed and not self._is_kept:
            self._is_kept = True
            self._keeper.start()
        self._is_listening = is_needed
        self._hungry = self._has_heard = True
        self.waker.wake()

    def own(self, queue: str) -> bool:
        """Hold an exclusive queue until the session ends; False: another session does."""
        for _ in range(OWN_TRIES):
            if queue in self._owned or self.broker.own(queue):
                self._owned.add(queue)
                return True
            sleep(OWN_SECONDS)  # who looks whether its owner is gone holds it for an instant
        return False

    def disown(self, queue: str) -> None:
        """Give it up, if it is ours."""
        if queue in self._owned:
            self._owned.discard(queue)
            self.broker.disown(queue)

    def close(self) -> None:
        """Give back what was not acknowledged, and end; on a lost session leave it to the keeper."""
        if self._is_closed:
            return
        for delivery in self._ready:
            self._give_back(delivery)
        self._ready.clear()
        is_said = self.flush_quietly() and self._delete_owned()
        self._is_closed = True
        self._keeper.stop(is_lost=not is_said and self._is_kept)
        if self._session is not None:
            self._session.close()
        self.waker.close()

    def _delete_owned(self) -> bool:
        """Exclusive queues end with their connection. False: the server is gone."""
        try:
            for queue in self._owned:
                self.broker.delete(queue)
        except DatabaseError:
            return False
        return True

    # Acknowledging

    def say(self, tag: str, word: Word) -> None:
        """Note what a consumer says of a message. From the consuming thread it is written down before it goes on."""
        if not self.holdings.say(tag, word):
            return
        is_own = threading.get_ident() == self._thread
        if is_own and (self._is_delivering or not self.is_in_loop):
            self.flush()
        elif not is_own or not self.is_in_loop:
            self.waker.wake()

    def flush(self) -> None:
        """Write down what was said. Raises: Django's database errors."""
        if self.holdings.has_words:
            self.holdings.write_down(self.store, self.broker)

    def flush_quietly(self) -> bool:
        """The same where the connection is being closed: what cannot be said now is left to the keeper or to leases."""
        if self._is_closed or self.is_lost:
            return False
        try:
            self.flush()
        except DatabaseError as error:
            logger.warning("transport.goodbye_failed what was held comes back later; %s", str(error).strip())
            return False
        return True

    # Working

    def is_due(self) -> bool:
        """Whether `work` would do anything now. Asks nobody."""
        if self.holdings.has_words or self._ready or self._keeper.missing:
            return True
        is_time = monotonic() >= self._due_at
        if (self._has_heard or is_time) and any(channel.transient_queues for channel in self._channels()):
            return True
        return (self._hungry or is_time) and any(c.stored_queues and c.capacity for c in self._channels())

    def seconds_to_gather(self) -> float:
        """How long what is due may wait for more of its kind; 0: it is worth its statements now.

        A pool's words come to a worker's event loop one by one. To write each down, and to fetch one message for each,
        would take longer than the tasks.
        """
        now = monotonic()
        if not self._gathers_until:
            self._gathers_until = now + GATHER_SECONDS
        is_ripe = self._ready or self._keeper.missing or self.holdings.words >= GATHER_MOST or now >= self._due_at
        if is_ripe or (self._has_heard and any(channel.transient_queues for channel in self._channels())):
            return 0.0
        if self._hungry and any(c.stored_queues and c.is_half_empty for c in self._channels()):
            return 0.0
        return max(0.0, self._gathers_until - now)

    def seconds_until_due(self) -> float:
        """How long there is nothing to do unless somebody wakes."""
        if self.is_due():
            return 0.0
        left = self._due_at - monotonic()
        return left if left > 0 else self._address.poll_seconds  # it is time, but no consumer may have more

    def work(self, deliver: Callable[[dict[str, Any], str], None], *, limit: int | None = None) -> int:
        """Write down, fetch and hand over; returns how many were handed over, at most `limit`.

        Raises: Django's database errors, when the session is lost; whatever a consumer raises.
        """
        self._thread = threading.get_ident()
        self._gathers_until = 0.0
        self.waker.drain()
        self.hear()
        self.flush()
        if self._keeper.missing:
            self._declare_again()
        if not self._ready:
            self._fetch()
        return self._deliver(deliver, limit)

    def hear(self) -> None:
        """Take in what the server has said."""
        heard = self.session.hear()
        if not heard:
            return
        namespace = self._address.place.namespace
        stored = {waker_of(namespace), *(waker_of(namespace, q) for c in self._channels() for q in c.stored_queues)}
        transient = {waker_of(namespace, q) for c in self._channels() for q in c.transient_queues}
        self._hungry = self._hungry or not stored.isdisjoint(heard)
        self._has_heard = self._has_heard or not transient.isdisjoint(heard)

    def wait(self, seconds: float) -> None:
        """Until something is to be done, at most so long."""
        seconds = min(seconds, self.seconds_until_due())
        if seconds > 0:
            poller = select.poll()
            for source in (self.waker, self.session):
                poller.register(source, select.POLLIN)
            poller.poll(seconds * 1000)

    def get(self, channel: Channel, queue: str) -> dict[str, Any] | None:
        """One message of a queue that nobody here need consume; None: there is none now."""
        self._thread = threading.get_ident()
        self.flush()
        if channel.is_transient(queue):
            taken = self.broker.take([queue], limit=1)
            return self._transient(channel, *taken[0]).payload if taken else None
        claims = self._claim([queue], 1)
        return self._stored(channel, claims[0]).payload if claims else None

    def drop(self, channel: Channel, queue: str) -> None:
        """Give back what waits to be handed over to a consumer that is no more."""
        dropped = [one for one in self._ready if one.channel is channel and one.queue == queue]
        for delivery in dropped:
            self._ready.remove(delivery)
            self._give_back(delivery)
        if dropped:
            self.flush_quietly()

    def waiting_for(self, channel: Channel) -> int:
        """How many messages this channel has that were not handed over yet."""
        return sum(one.channel is channel and one.holding is not None for one in self._ready)

    def delivered(self, tag: str, message: Any) -> None:
        """Remember kombu's message for as long as anybody deals with it."""
        holding = self.holdings.get(tag)
        if holding is not None:
            holding.message = weakref.ref(message)

    def _fetch(self) -> None:
        """Of each channel what it may have now: what is for it alone, then what it has capacity for."""
        is_time = monotonic() >= self._due_at
        is_hungry, self._hungry = self._hungry or is_time, False
        has_heard, self._has_heard = self._has_heard or is_time, False
        for channel in self._channels():
            if has_heard and (queues := channel.transient_queues):
                taken = self.broker.take(queues, limit=MOST_AT_ONCE)
                self._ready.extend(self._transient(channel, queue, payload) for queue, payload in taken)
                self._has_heard = self._has_heard or len(taken) == MOST_AT_ONCE
            if not is_hungry or not channel.stored_queues:
                continue
            if not (capacity := min(channel.capacity, MOST_AT_ONCE)):
                self._hungry = True
                continue
            claims = self._claim(channel.next_queues(), capacity)
            self._ready.extend(self._stored(channel, claim) for claim in claims)
            self._hungry = self._hungry or len(claims) == capacity
        if is_time or (is_hungry and not self._hungry):
            self._due_at = monotonic() + self._seconds_until_next()

    def _seconds_until_next(self) -> float:
        """How long nothing of the stored queues becomes due, at most `poll_seconds`."""
        queues = sorted({queue for channel in self._channels() for queue in channel.stored_queues})
        seconds = self.store.next_due_seconds(queues) if queues and not self._hungry else None
        longest = self._address.poll_seconds
        return longest if seconds is None else min(max(seconds, SOON_SECONDS), longest)

    def _deliver(self, deliver: Callable[[dict[str, Any], str], None], limit: int | None) -> int:
        count = 0
        self._is_delivering, was_delivering = True, self._is_delivering
        try:
            while self._ready and (limit is None or count < limit):
                delivery = self._ready.popleft()
                count += 1
                deliver(delivery.payload, delivery.queue)
        finally:
            self._is_delivering = was_delivering
        return count

    def _give_back(self, delivery: Delivery) -> None:
        if delivery.holding is not None:
            self.holdings.say(delivery.payload["properties"]["delivery_tag"], Word.REQUEUE)

    def _claim(self, queues: Sequence[str], limit: int) -> list[Claim]:
        lease = timedelta(seconds=self._address.lease_seconds)
        return self.store.claim(queues=queues, limit=limit, lease=lease, worker=self._worker)

    def _stored(self, channel: Channel, claim: Claim) -> Delivery:
        message, tag = claim.message, str(claim.token)
        holding = Holding(message_id=message.id, token=claim.token, queue=message.queue, is_tracked=is_awaited(message))
        self.holdings.hold(tag, holding)
        payload = read_payload(message)
        if holding.is_tracked:
            payload["headers"][CLAIM_HEADER] = claim_header(message.id, claim.token, self._address.alias)
        return self._as_delivery(channel, message.queue, payload, tag, holding)

    def _transient(self, channel: Channel, queue: str, text: str) -> Delivery:
        payload = channel.decode_broadcast(text)
        payload["properties"]["delivery_info"][QUEUE] = queue  # a fanout's routing key does not tell
        return self._as_delivery(channel, queue, payload, fresh_tag(), None)

    def _as_delivery(
        self, channel: Channel, queue: str, payload: dict[str, Any], tag: str, holding: Holding | None
    ) -> Delivery:
        payload["properties"]["delivery_tag"] = tag
        return Delivery(channel=channel, queue=queue, payload=payload, holding=holding)

    def _expiring(self) -> list[str]:
        return sorted({queue for channel in self._channels() for queue in channel.expiring_queues})

    def _declare_again(self) -> None:
        missing, self._keeper.missing = self._keeper.missing, set()
        for channel in self._channels():
            for queue in missing:
                channel.declare_again(queue)


def is_awaited(message: Message) -> bool:
    """Whether something follows from a message's end, so that its outcome is told when its task has ended.

    A row that no Celery client has published counts: it may have continuations, which a claim does not show.
    """
    return CELERY not in message.headers or bool(message.report_to or message.key or message.barrier_id)
