"""Queues turned off and on."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from pg_queue.domain import Switch
from pg_queue.storage.instants import to_instant
from pg_queue.storage.redis.encoding import UNREADABLE
from pg_queue.storage.redis.server import Server

_SWITCH = re.compile(r"([01])(\d+)(\[.*\])", re.DOTALL)


class RedisSwitches:
    """Implements `pg_queue.ports.Switches`."""

    def __init__(self, server: Server, namespace: str) -> None:
        self._server, self._namespace = server, namespace

    def turn(self, queue: str | None, *, is_on: bool, by: str, reason: str = "") -> Switch:
        """See the port."""
        request = {"queue": queue or "", "is_on": is_on, "by": by, "reason": reason}
        (switch,) = _decode(queue or "", self._server.run("switches", "turn", namespace=self._namespace, **request))
        return switch

    def list(self) -> list[Switch]:
        """See the port."""
        flat = self._server.run("switches", "list", namespace=self._namespace)
        pairs = sorted(zip(flat[::2], flat[1::2], strict=True))
        return [switch for queue, text in pairs for switch in _decode(queue, text)]


def _decode(queue: str, text: str) -> Iterator[Switch]:
    """The switch; none where no operation has written it."""
    parts = _SWITCH.fullmatch(text)
    if parts is None:
        return
    try:
        by, reason = json.loads(parts[3])
        changed_at = to_instant(parts[2])
    except UNREADABLE:
        return
    yield Switch(
        queue=queue or None, is_on=parts[1] == "1", changed_at=changed_at, changed_by=str(by), reason=str(reason)
    )
