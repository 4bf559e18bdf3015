"""What the project's current Celery app says of its broker and its queues."""

from __future__ import annotations

from typing import Any

from celery import current_app

_FANOUT = "fanout"


def app_broker() -> str | None:
    """Its broker's URL where that is ours already; None: it is another, or none is set."""
    url: Any = current_app.conf.broker_write_url or current_app.conf.broker_url
    return url if isinstance(url, str) and url.startswith("downbeat") else None


def app_options() -> dict[str, Any]:
    """`broker_transport_options`, where its broker is ours."""
    return dict(current_app.conf.broker_transport_options or {}) if app_broker() else {}


def app_queues() -> list[str]:
    """The queues of its workers: `task_queues`, or the default one. Without those of broadcasts: those do not wait."""
    return [name for name, queue in _queues().items() if queue.exchange is None or queue.exchange.type != _FANOUT]


def app_exchanges() -> dict[str, str]:
    """The types of its queues' exchanges, by name."""
    exchanges = [queue.exchange for queue in _queues().values() if queue.exchange is not None and queue.exchange.name]
    return {exchange.name: exchange.type for exchange in exchanges if exchange.type != _FANOUT}


def _queues() -> dict[str, Any]:
    queues: dict[str, Any] = current_app.amqp.queues
    return queues
