"""`manage.py run_worker`: claims messages and runs their tasks."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from typing import Any

from django.core.management.base import CommandParser

from pg_queue.api import check_queue
from pg_queue.errors import InvalidMessage
from pg_queue.process import ServiceCommand, StopSignals, check_ready, check_results_ready
from pg_queue.settings import queue_settings
from pg_queue.tasks import tasks
from pg_queue.worker.loop import Worker
from pg_queue.worker.options import MOST_AT_ONCE, WorkerOptions
from pg_queue.worker.pools import POOLS


class Command(ServiceCommand):
    """Runs one worker: it claims and settles, and child processes or threads run the tasks."""

    help = "Run the tasks of messages. Any number of workers may run, on any number of hosts."

    def add_arguments(self, parser: CommandParser) -> None:
        """The worker's own options."""
        super().add_arguments(parser)
        parser.add_argument(
            "--queues", default="default", metavar="A,B", help="served in this order; default: %(default)s"
        )
        parser.add_argument(
            "--concurrency", type=int, default=os.cpu_count() or 1, metavar="N", help="tasks at once; default: the CPUs"
        )
        parser.add_argument(
            "--pool",
            choices=sorted(POOLS),
            default="process",
            help="what runs the tasks; threads share this process and cannot be killed; default: %(default)s",
        )
        parser.add_argument(
            "--store", default="default", metavar="ALIAS", help="of PG_QUEUE['STORES']; default: %(default)s"
        )
        parser.add_argument(
            "--namespace", metavar="NAME", help="whose messages it serves; default: the store's own NAMESPACE"
        )
        parser.add_argument("--drain-seconds", type=float, metavar="S", help="default: PG_QUEUE['DRAIN_SECONDS']")

    def make_ready(self, options: Mapping[str, Any]) -> str:
        """The store that it serves, whatever becomes of the others."""
        self.options = self._chosen(options)
        used = self.options.find_store()
        self.place = used.place
        check_ready(self.app_labels, used)
        check_results_ready()
        return used.place

    def serve(self, **options: Any) -> None:
        """Work until stopped; with `--once`, until nothing is due."""
        chosen = self.options
        known = tasks()
        with StopSignals() as stop:
            worker = Worker(chosen, stop, POOLS[options["pool"]])
            health = self.health_server(options, worker.pulse, details=worker.details, used=chosen.find_store())
            if health:
                health.start()
            self.say_started(
                **({} if chosen.store == "default" else {"store": chosen.store}),
                **({} if chosen.namespace is None else {"namespace": chosen.namespace}),
                queues=",".join(chosen.queues),
                concurrency=chosen.concurrency,
                pool=options["pool"],
                tasks=len(known),
                **({"health_port": health.port} if health else {}),
            )
            worker.run()
            if health:
                health.stop()
        figures = worker.details()
        self.say("stopped", finished=figures["finished"], failed=figures["failed"])

    def _chosen(self, options: Mapping[str, Any]) -> WorkerOptions:
        queues = tuple(dict.fromkeys(name.strip() for name in options["queues"].split(",") if name.strip()))
        drain = options["drain_seconds"]
        if not queues:
            raise self.usage("--queues", "names separated by commas", options["queues"])
        for name in queues:
            self._check_queue(name)
        if not 1 <= options["concurrency"] <= MOST_AT_ONCE:
            raise self.usage("--concurrency", f"a number from 1 to {MOST_AT_ONCE}", options["concurrency"])
        if drain is not None and not 0 <= drain < math.inf:  # false for NaN
            raise self.usage("--drain-seconds", "a number of seconds, 0 or more", drain)
        return WorkerOptions(
            queues=queues,
            concurrency=options["concurrency"],
            drain_seconds=queue_settings().drain_seconds if drain is None else drain,
            once=options["once"],
            store=options["store"],
            namespace=options["namespace"],
        )

    def _check_queue(self, name: str) -> None:
        try:
            check_queue(name)
        except InvalidMessage as error:
            raise self.usage("--queues", f"names of {error.expected}, separated by commas", name) from error
