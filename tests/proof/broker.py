"""The project's broker in a folder, which writes on each message when it was published."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from backend import broker


class Channel(broker.Channel):
    """As the project's."""

    def _put(self, queue: str, payload: Any, **options: Any) -> None:
        payload["headers"]["published_at"] = datetime.now(UTC).isoformat()
        super()._put(queue, payload, **options)


class Transport(broker.Transport):
    """What Celery's `broker_transport` names."""

    Channel = Channel
    polling_interval = 0.05
