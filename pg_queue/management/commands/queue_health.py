"""`manage.py queue_health`: whether the queues are worked off, for a person and for monitoring."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.core.management.base import CommandError, CommandParser

from pg_queue.api import check_queue, queue_settings
from pg_queue.domain import Capability, WorkerState
from pg_queue.errors import InvalidMessage
from pg_queue.management.operating import StoreCommand, add_stale_option, add_store_options
from pg_queue.ports import QueueDepth, QueueStore
from pg_queue.process import ExitCode
from pg_queue.text import table

_COLUMNS = (
    "queue",
    "waiting",
    "delayed",
    "running",
    "dead",
    "oldest_due_seconds",
    "workers",
    "limit",
    "limit_wait_seconds",
)
_EPILOG = (
    "Exit codes: 0 healthy; 1 unexpected error; 2 wrong usage or configuration; 3 database or store unreachable; "
    "4 not migrated; 7 a threshold is exceeded."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Threshold:
    """One figure that must not be above `most`, or below `least`."""

    flag: str
    figure: str
    is_least: bool = False

    def problem(self, row: Mapping[str, Any], options: Mapping[str, Any]) -> str | None:
        """What is wrong with a queue's figures; None: nothing, or the flag was not given."""
        bound, got = options[self.flag], row[self.figure]
        if bound is None or (got >= bound if self.is_least else got <= bound):
            return None
        wanted = f"at least {bound:g}" if self.is_least else f"at most {bound:g}"
        return f"{row['queue']}: expected {self.figure} {wanted}, got: {got:g}"


THRESHOLDS = (
    Threshold(flag="max_waiting", figure="waiting"),
    Threshold(flag="max_oldest_seconds", figure="oldest_due_seconds"),
    Threshold(flag="max_dead", figure="dead"),
    Threshold(flag="min_workers", figure="workers", is_least=True),
)


class Command(StoreCommand):
    """Asks the store, and holds what it says against thresholds."""

    help = "Ask the store for each queue's figures; exit with 7 where one is beyond a threshold."

    def add_arguments(self, parser: CommandParser) -> None:
        """The command's own options."""
        parser.epilog = _EPILOG
        add_store_options(parser)
        add_stale_option(parser)
        add = parser.add_argument
        add("--queue", action="append", metavar="NAME", help="this one, also while it is empty; may be repeated")
        add("--max-waiting", type=int, metavar="N", help="of messages that are due, in each queue")
        add("--max-oldest-seconds", type=float, metavar="S", help="for which the oldest has been due, in each queue")
        add("--max-dead", type=int, metavar="N", help="of dead letters, in each queue")
        add("--min-workers", type=int, metavar="N", help="that are active, for each queue")
        add(
            "--max-reaper-lag-seconds",
            type=float,
            default=60.0,
            metavar="S",
            help="for which a lease may have run out before a reaper takes it back; default: %(default)g",
        )

    def make_ready(self, options: Mapping[str, Any]) -> str:
        """The store that is asked, whatever becomes of the others."""
        self._used = self.find_store(options)
        return self._used.place

    def serve(self, **options: Any) -> None:
        """Ask, show, judge."""
        rows = list(_rows(self._used, self._queues(options), self.stale_seconds(options)))
        lag = round(self._used.overdue_seconds(), 1)
        problems = [text for row in rows for one in THRESHOLDS if (text := one.problem(row, options))]
        if lag > options["max_reaper_lag_seconds"]:
            most = options["max_reaper_lag_seconds"]
            problems.append(f"reaper: expected no lease that ran out more than {most:g} s ago, got: {lag:g} s")
        self._tell(rows, lag, problems)
        if problems:
            raise CommandError("; ".join(problems), returncode=ExitCode.UNHEALTHY)

    def _queues(self, options: Mapping[str, Any]) -> Sequence[str] | None:
        for name in options["queue"] or ():
            try:
                check_queue(name)
            except InvalidMessage as error:
                raise self.usage("--queue", error.expected, name) from error
        return options["queue"] or None

    def _tell(self, rows: Sequence[Mapping[str, Any]], lag: float, problems: Sequence[str]) -> None:
        if self._as_json:
            answer = {
                "healthy": not problems,
                "place": self.place,
                "reaper_lag_seconds": lag,
                "queues": rows,
                "problems": problems,
            }
            self.stdout.write(json.dumps(answer))
            return
        if rows:
            self.stdout.write(table(_COLUMNS, rows))
        self.stdout.write(f"reaper_lag_seconds {lag:g}")


def _rows(store: QueueStore, queues: Sequence[str] | None, stale_seconds: float) -> Iterator[dict[str, Any]]:
    depths = {depth.queue: depth for depth in store.depths()}
    active = [one for one in store.workers.list() if one.state(stale_seconds=stale_seconds) is WorkerState.ACTIVE]
    served = {queue for one in active for queue in one.queues}
    limits = queue_settings().limits if Capability.LIMITS in store.capabilities else {}
    for queue in sorted({*depths, *served, *limits} if queues is None else queues):
        limit = limits.get(queue)
        wait = None if limit is None else round(store.limits.take(queue, limit, wanted=0).wait_seconds, 1)
        yield {
            "queue": queue,
            **_figures(depths.get(queue)),
            "workers": sum(queue in one.queues for one in active),
            "limit": limit and f"{limit.count}/{limit.period_seconds:g}s burst {limit.burst}",
            "limit_wait_seconds": wait,
        }


def _figures(depth: QueueDepth | None) -> dict[str, Any]:
    names = ("waiting", "delayed", "running", "dead")
    oldest = 0.0 if depth is None else round(depth.oldest_due_seconds, 1)
    return {**{name: 0 if depth is None else getattr(depth, name) for name in names}, "oldest_due_seconds": oldest}
