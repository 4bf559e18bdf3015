"""`manage.py run_worker`: claims messages and runs their tasks."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

from django.core.management.base import CommandParser

from pg_queue.errors import InvalidMessage
from pg_queue.process import (
    Choice,
    ReloadSignals,
    ServiceCommand,
    StopSignals,
    check_ready,
    check_results_ready,
    chosen,
)
from pg_queue.tasks import tasks
from pg_queue.worker.loop import Worker
from pg_queue.worker.options import MOST_AT_ONCE, WorkerOptions, parse_queues
from pg_queue.worker.pools import POOLS


class Command(ServiceCommand):
    """Runs one worker: it claims and settles, and child processes, threads or an event loop run the tasks."""

    help = (
        "Run the tasks of messages. Any number of workers may run, on any number of hosts. An option that is not given "
        "is that of the environment (DOWNBEAT_…), else of the settings (PG_QUEUE)."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """The worker's own options."""
        super().add_arguments(parser)
        add = parser.add_argument
        add("--queues", metavar="A,B", help="served in this order; or, as A=3,B=1, in these shares; default: default")
        add("--concurrency", type=int, metavar="N", help="tasks at once; default: the CPUs")
        add("--pool", choices=sorted(POOLS), help="what runs the tasks; default: process")
        add("--store", metavar="ALIAS", help="of PG_QUEUE['STORES']; default: default")
        add("--namespace", metavar="NAME", help="whose messages it serves; default: the store's own NAMESPACE")
        add("--drain-seconds", type=float, metavar="S", help="for what runs, after SIGTERM; default: 30")
        add("--max-tasks-per-child", type=int, metavar="N", help="a child process is replaced after so many tasks")
        add("--max-memory-per-child", type=int, metavar="MB", help="it is replaced once it occupies more than this")

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
        own = self.options
        known = tasks()
        with StopSignals() as stop, nullcontext() if _is_on_terminal() else ReloadSignals() as reload:
            worker = Worker(own, stop, reload)
            health = self.health_server(options, worker.pulse, details=worker.details, used=own.find_store())
            if health:
                health.start()
            self.say_started(
                **({} if own.store == "default" else {"store": own.store}),
                **({} if own.namespace is None else {"namespace": own.namespace}),
                queues=",".join(own.queues),
                concurrency=own.concurrency,
                pool=own.pool,
                tasks=len(known),
                **({"health_port": health.port} if health else {}),
            )
            worker.run()
            if health:
                health.stop()
        figures = worker.details()
        self.say("stopped", finished=figures["finished"], failed=figures["failed"])

    def _chosen(self, options: Mapping[str, Any]) -> WorkerOptions:
        pool = chosen(options, "pool", "worker_pool", str)
        if pool.value not in POOLS:
            raise self.usage(pool.source, f"one of {', '.join(sorted(POOLS))}", pool.value)
        queues, weights = self._queues(chosen(options, "queues", "worker_queues", str))
        return WorkerOptions(
            pool=pool.value,
            queues=queues,
            weights=weights,
            concurrency=self._concurrency(chosen(options, "concurrency", "worker_concurrency", int)),
            drain_seconds=self._drain_seconds(chosen(options, "drain_seconds", "drain_seconds", float)),
            max_tasks_per_child=self._most(chosen(options, "max_tasks_per_child", "max_tasks_per_child", int), pool),
            max_memory_per_child_mb=self._most(
                chosen(options, "max_memory_per_child", "max_memory_per_child_mb", int), pool
            ),
            once=options["once"],
            store=chosen(options, "store", "worker_store", str).value,
            namespace=chosen(options, "namespace", "worker_namespace", str).value,
        )

    def _queues(self, given: Choice[str]) -> tuple[tuple[str, ...], dict[str, int] | None]:
        try:
            return parse_queues(given.value)
        except InvalidMessage as error:
            raise self.usage(given.source, f"names of {error.expected}, separated by commas", error.got) from error
        except ValueError as error:
            raise self.usage(given.source, str(error), given.value) from error

    def _concurrency(self, given: Choice[int | None]) -> int:
        count = (os.cpu_count() or 1) if given.value is None else given.value
        if not 1 <= count <= MOST_AT_ONCE:
            raise self.usage(given.source, f"a number from 1 to {MOST_AT_ONCE}", count)
        return count

    def _drain_seconds(self, given: Choice[float]) -> float:
        if not 0 <= given.value < math.inf:  # false for NaN
            raise self.usage(given.source, "a number of seconds, 0 or more", given.value)
        return given.value

    def _most(self, given: Choice[int | None], pool: Choice[str]) -> int | None:
        if given.value is not None and given.value < 1:
            raise self.usage(given.source, "a number above 0", given.value)
        if given.value is not None and given.source.startswith("--") and pool.value != "process":
            raise self.usage(given.source, "--pool process, whose children it is about", pool.value)
        return given.value


def _is_on_terminal() -> bool:
    """There SIGHUP says that the terminal was closed, and ends the worker as it ends other programs."""
    return sys.stdin is not None and not sys.stdin.closed and sys.stdin.isatty()
