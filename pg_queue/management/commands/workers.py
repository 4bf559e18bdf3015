"""`manage.py workers`: who is at work."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.core.management.base import CommandError, CommandParser

from pg_queue.domain import WorkerState, WorkerView
from pg_queue.management.operating import StoreCommand, add_stale_option, add_store_options
from pg_queue.process import ExitCode

_COLUMNS = (
    "id",
    "state",
    "queues",
    "concurrency",
    "running",
    "finished",
    "failed",
    "started_at",
    "silent_seconds",
)
_EPILOG = (
    "Exit codes: 0 done; 1 unexpected error; 2 wrong usage or configuration; 3 database or store unreachable; "
    "4 not migrated; 7 fewer are active than --require."
)


class Command(StoreCommand):
    """Shows the workers on record; for monitoring, too."""

    help = "Show the workers that are active, and those that were not heard of for too long."

    def add_arguments(self, parser: CommandParser) -> None:
        """The command's own options."""
        parser.epilog = _EPILOG
        add_store_options(parser)
        add_stale_option(parser)
        parser.add_argument("--all", action="store_true", help="those that have stopped in good order, too")
        parser.add_argument("--queue", metavar="NAME", help="only those that serve this one")
        parser.add_argument("--require", type=int, default=0, metavar="N", help="exit with 7 if fewer are active")

    def make_ready(self, options: Mapping[str, Any]) -> str:
        """The store that is asked, whatever becomes of the others."""
        self._used = self.find_store(options)
        return self._used.place

    def serve(self, **options: Any) -> None:
        """Show them."""
        stale_seconds, queue = self.stale_seconds(options), options["queue"]
        found = [one for one in self._used.workers.list() if not queue or queue in one.queues]
        rows = [_row(one, one.state(stale_seconds=stale_seconds)) for one in found]
        self.show([row for row in rows if options["all"] or row["state"] != WorkerState.STOPPED], _COLUMNS)
        active = sum(row["state"] == WorkerState.ACTIVE for row in rows)
        if active < options["require"]:
            message = f"workers: expected at least {options['require']} active, got: {active}"
            raise CommandError(message, returncode=ExitCode.UNHEALTHY)


def _row(worker: WorkerView, state: WorkerState) -> dict[str, Any]:
    return {
        "id": worker.id,
        "state": state.value,
        "queues": ",".join(worker.queues),
        "concurrency": worker.concurrency,
        "running": worker.running,
        "finished": worker.finished,
        "failed": worker.failed,
        "started_at": worker.started_at.isoformat(timespec="seconds"),
        "silent_seconds": round(worker.silent_seconds, 1),
    }
