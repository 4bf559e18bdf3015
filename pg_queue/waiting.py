"""Request and reply: waiting for the end of one message."""

from __future__ import annotations

import time
import uuid
from datetime import timedelta

from pg_queue.domain import TERMINAL_STATES, Capability, Message
from pg_queue.errors import CapabilityMissing, InvalidMessage, UnknownMessage, WaitedTooLong
from pg_queue.ports import QueueStore
from pg_queue.storage import store
from pg_queue.validation import check_message_id

FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.005, 0.2
"""Between two looks: short at first, since most of what is waited for is short; twice as long each time."""


def wait(
    message_id: uuid.UUID, *, timeout: timedelta, cancel_on_timeout: bool = True, using: str = "default"
) -> Message:
    """Look again and again until the message has ended, and return it with its outcome, whatever that is.

    When `timeout` is over the message is cancelled, so that nobody works for a caller who has gone; if it has ended by
    then, that outcome is returned. For a message that the caller's own open transaction has enqueued this waits in
    vain: nobody sees it before the commit. Where results are kept elsewhere, `get_result` has what its task returned.

    Raises:
        WaitedTooLong: it had not ended, and has been cancelled unless `cancel_on_timeout` is false.
        UnknownMessage: there is no such message, or no longer.
        CapabilityMissing: the store cannot cancel; before any waiting.
        InvalidMessage: field `timeout`, where it is no span of time; `message_id`, where it is no UUID.
    """
    check_message_id(message_id)
    seconds = _seconds_of(timeout)
    place = store(using)
    if cancel_on_timeout and Capability.CANCEL not in place.capabilities:
        raise CapabilityMissing(using, Capability.CANCEL)
    message = _wait(place, message_id, seconds)
    if message.state not in TERMINAL_STATES:
        if not cancel_on_timeout or place.cancel([message_id], reason="whoever waited for it gave up"):
            raise WaitedTooLong(f"message {message_id}: expected its end within {timeout}, got: {message.state}")
        message = _look(place, message_id)
    return message


def _seconds_of(timeout: object) -> float:
    if not isinstance(timeout, timedelta) or timeout < timedelta():
        raise InvalidMessage(field="timeout", expected="a timedelta, 0 or more", got=timeout)
    return timeout.total_seconds()


def _wait(place: QueueStore, message_id: uuid.UUID, seconds: float) -> Message:
    """The message when it has ended, or when the time is over."""
    give_up_at = time.monotonic() + seconds
    pause = FIRST_PAUSE_SECONDS
    while (message := _look(place, message_id)).state not in TERMINAL_STATES:
        left = give_up_at - time.monotonic()
        if left <= 0:
            break
        time.sleep(min(pause, left))
        pause = min(pause * 2, LONGEST_PAUSE_SECONDS)
    return message


def _look(place: QueueStore, message_id: uuid.UUID) -> Message:
    try:
        return place.get([message_id])[message_id]
    except KeyError:
        raise UnknownMessage(message_id) from None
