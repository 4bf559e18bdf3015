"""`PG_QUEUE["ROUTES"]`: which queues are worked off elsewhere, and where."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from pg_queue.errors import Configuration

EVERY_QUEUE = "*"
HERE = "default"
"""The store that everything is enqueued into which is not routed away."""
STORE, CELERY = "relay:store:", "relay:celery:"
"""What the topics of the outbox begin with whose events are messages on their way to a target of that kind."""

_QUEUE = re.compile(r"\*|[A-Za-z0-9_][A-Za-z0-9._:-]{0,127}")
_APP = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*(:[A-Za-z_]\w*)?", re.ASCII)
_MOST_IN_TOPIC = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One entry of `PG_QUEUE["ROUTES"]`."""

    queue: str
    """The queue that is routed; `*`: each that has no entry of its own."""
    store: str = ""
    """Alias of another store; `default`: it stays here."""
    celery: str = ""
    """Dotted path of a Celery app, whose broker the messages are sent to."""
    celery_queue: str = ""
    """The queue there; empty: of the same name, and for the queue `default` what Celery's own routing chooses."""

    @property
    def topic(self) -> str | None:
        """Under which topic of the outbox its messages leave; None: they stay here."""
        if self.celery:
            return f"{CELERY}{self.celery}"
        return None if self.store == HERE else f"{STORE}{self.store}"


class Routes:
    """All routes, by queue."""

    def __init__(self, routes: Mapping[str, Route]) -> None:
        self._routes = routes

    def of(self, queue: str) -> Route | None:
        """The queue's own route, else that of all queues; None: it is not routed."""
        return self._routes.get(queue) or self._routes.get(EVERY_QUEUE)

    def topic_of(self, queue: str) -> str | None:
        """Under which topic a message of this queue leaves; None: it stays here."""
        route = self.of(queue)
        return None if route is None else route.topic

    @property
    def own_topics(self) -> Mapping[str, str | None]:
        """Topics by queue, of the queues with an entry of their own; None: it stays here."""
        return {queue: route.topic for queue, route in self._routes.items() if queue != EVERY_QUEUE}

    @property
    def topics(self) -> list[str]:
        """Every topic that a queue is routed to, sorted."""
        return sorted({route.topic for route in self._routes.values() if route.topic is not None})

    @property
    def stores(self) -> list[str]:
        """Aliases of the other stores that a queue is routed to, sorted."""
        return sorted({route.store for route in self._routes.values() if route.store not in ("", HERE)})

    def __bool__(self) -> bool:
        """Whether anything leaves at all."""
        return bool(self.topics)


def parse_routes(raw: Mapping[str, Any], stores: Collection[str]) -> Routes:
    """Validate the setting; `stores`: the aliases of `PG_QUEUE["STORES"]`. Raises: Configuration."""
    return Routes({queue: _parse(queue, entry, stores) for queue, entry in raw.items()})


def _parse(queue: str, entry: object, stores: Collection[str]) -> Route:
    if not _QUEUE.fullmatch(str(queue)):
        raise Configuration(f"PG_QUEUE['ROUTES']: expected names of queues, or '*' for all others, got: {queue!r}")
    if not isinstance(entry, Mapping) or set(entry) not in ({"STORE"}, {"CELERY"}, {"CELERY", "QUEUE"}):
        raise _wrong(queue, "{'STORE': alias} or {'CELERY': path of an app, 'QUEUE': optional name}", entry)
    for key, value in entry.items():
        if not isinstance(value, str) or not value:
            raise Configuration(f"PG_QUEUE['ROUTES'][{queue!r}][{key!r}]: expected a text, got: {value!r}")
    route = Route(
        queue=queue,
        store=entry.get("STORE", ""),
        celery=entry.get("CELERY", ""),
        celery_queue=entry.get("QUEUE", ""),
    )
    _check_target(route, stores)
    return route


def _check_target(route: Route, stores: Collection[str]) -> None:
    if route.store and route.store not in stores:
        known = ", ".join(sorted(stores))
        raise _wrong(route.queue, f"a store among {known} (PG_QUEUE['STORES'])", route.store)
    if route.celery and not _APP.fullmatch(route.celery):
        raise _wrong(route.queue, "the dotted path of a Celery app, such as 'proj.celery.app'", route.celery)
    topic = route.topic
    if topic is not None and (len(topic) > _MOST_IN_TOPIC or not _QUEUE.fullmatch(topic)):
        most = _MOST_IN_TOPIC - len(STORE)
        expected = f"a target's name of at most {most} letters, digits, '_', '-', '.' or ':'"
        raise _wrong(route.queue, expected, route.store or route.celery)


def _wrong(key: str, expected: str, got: object) -> Configuration:
    return Configuration(f"PG_QUEUE['ROUTES'][{key!r}]: expected {expected}, got: {got!r}")
