"""`manage.py drain_broker`: moves what waits at Redis or RabbitMQ into PostgreSQL, while workers run on both."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from django.core.management.base import CommandError, CommandParser

from pg_queue.errors import Configuration
from pg_queue.process import ExitCode, ServiceCommand, StopSignals, check_ready

if TYPE_CHECKING:
    from pg_queue.celery.draining import Source
    from pg_queue.celery.transport.address import Address

FROM_VARIABLE = "DOWNBEAT_DRAIN_FROM"
MOST_IN_BATCH = 2000
_EPILOG = (
    "Exit codes: 0 done or stopped in good order; 1 messages are left that cannot be moved, or an unexpected error; "
    "2 wrong usage or configuration; 3 database or broker unreachable; 4 not migrated. SIGTERM and SIGINT stop it in "
    "good order."
)


class Command(ServiceCommand):
    """Drains one broker. Any number may run at once, also while workers take from the same queues."""

    help = (
        "Move the Celery messages that wait at Redis or RabbitMQ into PostgreSQL. Deletes no queue, loses no message."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """The command's own options."""
        parser.epilog = _EPILOG
        add = parser.add_argument
        add("--from", dest="source", metavar="URL", help=f"redis://…, amqp://…; default: the variable {FROM_VARIABLE}")
        add("--queue", action="append", metavar="NAME", help="this one; repeatable; default: those of the Celery app")
        add(
            "--to",
            metavar="URL",
            help="downbeat://…, or an alias of PG_QUEUE['STORES']; default: the app's, or default",
        )
        add("--once", action="store_true", help="exit when nothing waits any more, instead of going on until stopped")
        add("--dry-run", action="store_true", help="only tell how many wait in each queue")
        add("--batch", type=int, default=200, metavar="N", help="messages of one transaction (default: %(default)s)")
        add(
            "--transport-option",
            action="append",
            default=[],
            metavar="NAME=VALUE",
            help="of the old broker, such as visibility_timeout=7200; repeatable; the value is JSON, or a text",
        )
        add("--json", action="store_true", help="one JSON object per line on stdout")

    def make_ready(self, options: Mapping[str, Any]) -> str:
        """The store that messages go to; that the rest makes sense."""
        if not 1 <= options["batch"] <= MOST_IN_BATCH:
            raise self.usage("--batch", f"a whole number from 1 to {MOST_IN_BATCH}", options["batch"])
        self._url = options["source"] or os.environ.get(FROM_VARIABLE) or ""
        if not self._url:
            raise self.usage("--from", f"the URL of the old broker, here or in {FROM_VARIABLE}", "nothing")
        self._transport_options = dict(map(self._option, options["transport_option"]))
        self._address = self._resolve(options["to"])
        from pg_queue.storage.postgres import PostgresStore

        used = PostgresStore(self._address.conf, self._address.place)
        check_ready(self.app_labels, used)
        return used.place

    def serve(self, **options: Any) -> None:
        """Drain until stopped; with `--once`, until nothing waits."""
        from pg_queue.celery.draining import BrokerUnavailable, app_exchanges, open_source, shown_url

        connect = partial(open_source, self._url, self._transport_options, exchanges=app_exchanges())
        try:
            waiting = self._look(connect(), options["queue"])
            if options["dry_run"]:
                self._tell(waiting)
                return
            self.say_started(source=shown_url(self._url), queues=",".join(waiting), **self._absent)
            self._drain(connect, list(waiting), options)
        except BrokerUnavailable as error:
            message = f"broker {shown_url(self._url)}: {error}"
            raise CommandError(message, returncode=ExitCode.DATABASE) from error

    def _drain(self, connect: Any, queues: list[str], options: Mapping[str, Any]) -> None:
        from pg_queue.celery.draining import Destination, Drain

        with StopSignals() as stop:
            drain = Drain(Destination(self._address), queues, batch=options["batch"], stop=stop, say=self.say)
            try:
                drain.run(connect, once=options["once"])
            finally:
                left = drain.left
                for queue, count in drain.counts.items():
                    self.say("queue", queue=queue, moved=count.moved, known=count.known, left=left[queue])
                self.say("stopped", **drain.totals)
        if stay := ", ".join(f"{queue}: {count}" for queue, count in left.items() if count):
            message = f"messages were left at the broker, since they cannot be moved ({stay}); the log says why of each"
            raise CommandError(message, returncode=ExitCode.ERROR)

    def _tell(self, waiting: Mapping[str, int]) -> None:
        for queue, count in waiting.items():
            self.say("queue", queue=queue, waiting=count)
        held = {} if self._held is None else {"held": self._held}
        self.say("total", waiting=sum(waiting.values()), **held, **self._absent)

    def _look(self, source: Source, named: list[str] | None) -> dict[str, int]:
        """How many wait in each queue that there is.

        Raises: CommandError where a named one is not there, or none at all; BrokerUnavailable.
        """
        from pg_queue.celery.draining import app_queues

        queues = list(dict.fromkeys(named or app_queues()))
        try:
            found = {queue: source.waiting(queue) for queue in queues}
            self._held = source.held()
        finally:
            source.close()
        there = {queue: count for queue, count in found.items() if count is not None}
        absent = [queue for queue in queues if queue not in there]
        if absent and (named or not there):
            raise self.usage("--queue", "queues that the broker has", ", ".join(absent))
        self._absent = {"absent": ",".join(absent)} if absent else {}
        return there

    def _resolve(self, to: str | None) -> Address:
        try:
            from pg_queue.celery.draining import app_broker, app_options
            from pg_queue.celery.transport.address import resolve
        except ImportError as error:
            message = f"drain_broker needs Celery: pip install 'django-downbeat[celery]' ({error})"
            raise CommandError(message, returncode=ExitCode.USAGE) from error
        if to is None:
            return resolve(app_broker() or "downbeat://", app_options())
        try:
            return resolve(to if "://" in to else f"downbeat://{to}", {})
        except Configuration as error:
            raise Configuration(str(error).replace("broker_url:", "--to:")) from error

    def _option(self, text: str) -> tuple[str, Any]:
        name, is_given, value = text.partition("=")
        if not name or not is_given:
            raise self.usage("--transport-option", "NAME=VALUE", text)
        try:
            return name, json.loads(value)
        except ValueError:
            return name, value
