"""A message as Celery's own `Request`: what that would tell a broker is noted, for our worker to settle by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from celery.app.task import Context
from celery.worker.request import Request

from pg_queue.celery.envelope import Envelope, celery_priority, read_envelope
from pg_queue.celery.execution.tracing import AnyTask
from pg_queue.domain import Message


class NativeRequest(Request):
    """Celery's request of a message that our worker holds."""

    is_requeued = False
    """Celery wants the message run again."""
    is_retried = False
    """Another message was sent in its place, since its worker was lost."""

    def __init__(self, task: AnyTask, message: Message) -> None:
        envelope = read_envelope(message)
        delivery = _Delivery(
            headers=envelope.headers,
            properties={**envelope.properties, "priority": celery_priority(message.priority)},
            delivery_info=_delivery_info(envelope, message),
        )
        super().__init__(
            delivery,
            on_reject=self._note_reject,
            hostname=message.worker,
            app=task.app,
            task=task,
            body=(envelope.args, envelope.kwargs, envelope.embed),
            decoded=True,
        )
        self.embed = envelope.embed

    @property
    def context(self) -> Context:
        """The same as `self.request` says it, for whoever is told of an end without an execution."""
        return Context(self.for_tracer)

    @property
    def for_tracer(self) -> dict[str, Any]:
        """What `self.request` is made of."""
        return {**self.request_dict, **self.embed, "is_eager": False}

    def announce_expired(self) -> None:
        """Tell Celery's backend, and receivers of `task_revoked`, that it was not begun."""
        self._announce_revoked("expired", False, None, True)  # type: ignore[attr-defined]

    def _note_reject(self, logger: object, errors: object, requeue: bool) -> None:
        self.is_requeued = requeue

    def _retry_worker_lost(self, exc: Exception, exc_info: Any) -> bool:
        self.is_retried = bool(super()._retry_worker_lost(exc, exc_info))  # type: ignore[misc]
        return self.is_retried


@dataclass(frozen=True, slots=True, kw_only=True)
class _Delivery:
    """What `Request` reads of a kombu message."""

    headers: dict[str, Any]
    properties: dict[str, Any]
    delivery_info: dict[str, Any]


def _delivery_info(envelope: Envelope, message: Message) -> dict[str, Any]:
    sent: dict[str, Any] = envelope.properties.get("delivery_info") or {}
    return {"exchange": "", "routing_key": message.queue, **sent, "redelivered": message.attempts > 1}
