"""Messages sent to the broker of a Celery app, for its own workers: as Celery Beat sends them, under ids of ours.

"Taken" means what the broker can promise. RabbitMQ has confirmed each message (publisher confirms are turned on here,
whatever the app says). Redis has answered the command: what it keeps through a crash is up to its `appendonly`. SQS has
answered the request, and keeps the message on several machines.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from celery import Celery
from celery.result import denied_join_result
from django.utils.module_loading import import_string
from kombu import Connection, Producer

from pg_queue.domain import DEFAULT_PRIORITY, NewMessage
from pg_queue.errors import Configuration
from pg_queue.routes import Routes

logger = logging.getLogger(__name__)

PATIENCE_SECONDS = 10
"""How long a broker may take to connect, to take a message and to confirm it, where the app does not say otherwise."""
_HERE = "default"
"""The queue of a schedule that names none."""
_TRANSPORT_OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "amqp": {"read_timeout": PATIENCE_SECONDS, "write_timeout": PATIENCE_SECONDS},
    "redis": {"socket_timeout": PATIENCE_SECONDS, "socket_connect_timeout": PATIENCE_SECONDS},
}
"""By kombu's type of driver. Without them, a broker that is frozen holds a sender for ever."""


class CeleryTarget:
    """Implements `pg_queue.relay.targets.Target`."""

    has_outcomes = False

    def __init__(self, path: str, routes: Routes) -> None:
        """Raises: Configuration where there is no Celery app at `path`."""
        self._app = app_at(path)
        self._path, self._routes = path, routes
        self._connection: Connection | None = None
        self._producer: Producer | None = None

    def send(self, messages: Sequence[NewMessage]) -> Iterator[tuple[uuid.UUID, Exception | None]]:
        """See the protocol. One that fails is tried once more, on a new connection: the old one may be at fault."""
        for message in messages:
            assert message.id is not None  # the outbox keeps none without
            error = self._try(message)
            if error is not None and self._answers():
                error = self._try(message)
            yield message.id, error
            if error is not None and not self._answers():
                return

    def close(self) -> None:
        """See the protocol."""
        connection, self._connection, self._producer = self._connection, None, None
        if connection is not None:
            with suppress(Exception):  # it is given up, whatever state it is in
                connection.release()

    def _try(self, message: NewMessage) -> Exception | None:
        try:
            self._publish(message, self._connect())
        except Exception as error:  # noqa: BLE001 - whatever it is, the message waits, and its error is kept
            self.close()
            return error
        return None

    def _answers(self) -> bool:
        self.close()
        try:
            self._connect()
        except Exception:  # noqa: BLE001 - that is the answer
            self.close()
            return False
        return True

    def _connect(self) -> Producer:
        if self._producer is None:
            self._connection = connection_to(self._app)
            self._connection.connect()
            self._producer = self._app.amqp.Producer(self._connection, auto_declare=False)
        return self._producer

    def _publish(self, message: NewMessage, producer: Producer) -> None:
        """As `celery.beat.Scheduler.apply_async` does: by the task's own options, where the app knows it."""
        options = self._options(message, producer)
        task = None if self._app.conf.task_always_eager else self._app.tasks.get(message.task)
        args, kwargs = tuple(message.args), dict(message.kwargs)
        with denied_join_result():  # nobody waits for a result here, so no backend need prepare for it
            if task is None:
                self._app.send_task(message.task, args, kwargs, **options)
            else:
                task.apply_async(args, kwargs, **options)

    def _options(self, message: NewMessage, producer: Producer) -> dict[str, Any]:
        options: dict[str, Any] = {
            "task_id": str(message.id),
            "headers": dict(message.headers),
            "producer": producer,
            "retry": False,  # the relay tries again
            "timeout": PATIENCE_SECONDS,
        }
        if queue := self._queue_of(message.queue):
            options["queue"] = queue
        if message.run_after is not None and message.run_after > datetime.now(UTC):
            options["eta"] = message.run_after
        if (priority := priority_of(message.priority, self._driver)) is not None:
            options["priority"] = priority
        return options

    @property
    def _driver(self) -> str:
        return "" if self._connection is None else str(self._connection.transport.driver_type)

    def _queue_of(self, queue: str) -> str:
        route = self._routes.of(queue)
        if route is not None and route.celery == self._path and route.celery_queue:
            return route.celery_queue
        return "" if queue == _HERE else queue


def find_app(path: str) -> Celery:
    """The Celery app at this dotted path. Raises: Configuration."""
    try:
        app = import_string(path.replace(":", "."))
    except Exception as error:  # the project's module may raise anything when it is imported
        raise _no_app(path, f"{type(error).__name__}: {error}") from error
    if not isinstance(app, Celery):
        raise _no_app(path, repr(app))
    return app


def app_at(path: str) -> Celery:
    """The same, with its tasks loaded."""
    app = find_app(path)
    app.loader.import_default_modules()
    app.finalize()
    return app


def connection_to(app: Celery) -> Connection:
    """A connection to the app's broker, not opened yet, on which nothing waits for ever and RabbitMQ confirms."""
    plain = app.connection_for_write()
    driver = plain.transport.driver_type
    options = {**_TRANSPORT_OPTIONS.get(driver, {}), **app.conf.broker_transport_options}
    if driver == "amqp":
        options["confirm_publish"] = True
    return app.connection_for_write(transport_options=options)


def priority_of(priority: int, driver: str) -> int | None:
    """A priority of 1 (last) to 10 (first) as the broker counts it; None: none is sent.

    The default is sent as none, as Celery Beat does where a row has none: Celery's `task_default_priority` holds.
    RabbitMQ takes the larger first (and caps at a queue's `x-max-priority`), Redis the smaller, from 0 to 9.
    """
    if priority == DEFAULT_PRIORITY:
        return None
    if driver == "amqp":
        return priority
    return 10 - priority if driver == "redis" else None


def _no_app(path: str, got: str) -> Configuration:
    return Configuration(f"PG_QUEUE['ROUTES']: expected a Celery app at {path!r}, got: {got}")
