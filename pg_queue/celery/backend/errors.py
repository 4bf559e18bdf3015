"""What the backend raises on purpose."""

from __future__ import annotations

from kombu.exceptions import EncodeError

from pg_queue.errors import QueueError


class ResultTooLarge(QueueError, EncodeError):
    """What a task returned is larger than the configured bound. Celery makes the task fail with it."""


def too_large(size: int, bound: int, what: str = "result") -> ResultTooLarge:
    """The error for `what` of `size` bytes."""
    return ResultTooLarge(
        f"{what}: expected at most {bound} bytes as stored (MAX_PAYLOAD_BYTES, or MAX_BYTES of RESULTS, or "
        f"max_result_bytes in the URL of result_backend), got: {size}"
    )
