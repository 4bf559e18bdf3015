"""Failures that a store itself writes, worded alike by all of them."""

from __future__ import annotations

from pg_queue.domain import Failure


def cancelled(reason: str, *, attempts: int, max_attempts: int, is_running: bool) -> Failure:
    """Of a message that was cancelled: who or why, and what it was doing."""
    doing = f"during attempt {attempts} of {max_attempts}"
    if not is_running:
        doing = f"while it waited, after {attempts} of {max_attempts} attempts"
    return Failure(type="message.cancelled", message=f"{reason or 'cancelled'} ({doing})")


def vanished(attempts: int, max_attempts: int, *, worker: object) -> Failure:
    """Of a message whose worker has let its lease run out."""
    of_all = f" of {max_attempts}" if attempts >= max_attempts else ""
    attempt = f"attempt {attempts}{of_all}"
    return Failure(type="worker.vanished", message=f"{attempt}: the lease of worker {worker} ran out")


def unreadable(error: Exception) -> Failure:
    """Of a message that was claimed and that no reader can make sense of."""
    return Failure(type="message.unreadable", message=f"{type(error).__name__}: {error}")
