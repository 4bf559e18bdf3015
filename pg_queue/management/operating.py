"""What the commands share by which an operator acts: their options, the record's name for them, dead letters."""

from __future__ import annotations

import getpass
import json
import math
import uuid
from argparse import ArgumentParser
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from django.core.management.base import CommandError, CommandParser

from pg_queue.api import Operator, check_queue, queue_settings
from pg_queue.domain import Message
from pg_queue.errors import CapabilityMissing, InvalidMessage, StoreUnavailable
from pg_queue.ports import QueueStore
from pg_queue.process import ExitCode, ServiceCommand, check_ready
from pg_queue.storage import store
from pg_queue.text import table

MOST_LISTED = 100_000
STALE_BEATS = 4
"""Heartbeats that a worker may miss before it is taken for stale."""
PAGE = 1000
EPILOG = (
    "Exit codes: 0 done; 1 unexpected error; 2 wrong usage, input or configuration; 3 database or store unreachable; "
    "4 not migrated."
)
DEAD_COLUMNS = ("id", "queue", "task", "died_at", "attempts", "error")

Actions = Mapping[str, tuple[str, Callable[[ArgumentParser], None]]]
"""By name: the summary, and what adds the action's own options."""


def add_store_options(parser: ArgumentParser) -> None:
    """Which store is meant, and how it is shown."""
    parser.add_argument("--store", default="default", metavar="ALIAS", help="of PG_QUEUE['STORES']")
    parser.add_argument("--namespace", metavar="NAME", help="default: the store's own")
    parser.add_argument("--json", action="store_true", help="one JSON object per line on stdout")


def add_stale_option(parser: ArgumentParser) -> None:
    """From when on a worker is not taken for active."""
    parser.add_argument(
        "--stale-seconds",
        type=float,
        metavar="S",
        help="since a worker was heard of; default: 4 times HEARTBEAT_SECONDS",
    )


class StoreCommand(ServiceCommand):
    """A command that asks one store something and ends."""

    def find_store(self, options: Mapping[str, Any]) -> QueueStore:
        """The store that the options name, in which everything is that it needs.

        Raises: CommandError, CapabilityMissing; as `check_ready`.
        """
        self.check_store(options["store"])
        found = store(options["store"])
        used = found if options["namespace"] is None else found.within(options["namespace"])
        self.place = used.place
        check_ready(self.app_labels, used)
        return used

    def stale_seconds(self, options: Mapping[str, Any]) -> float:
        """After how long without a heartbeat a worker is stale."""
        given = options["stale_seconds"]
        if given is None:
            return STALE_BEATS * queue_settings().heartbeat_seconds
        if not 0 < given < math.inf:  # false for NaN
            raise self.usage("--stale-seconds", "a number of seconds above 0", given)
        return float(given)

    def check_store(self, alias: str) -> None:
        """Raises: CommandError for an alias that is none."""
        if alias not in queue_settings().places:
            known = ", ".join(sorted(queue_settings().places))
            raise self.usage("--store", f"an alias of PG_QUEUE['STORES'] ({known})", alias)

    def show(self, rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> None:
        if self._as_json:
            for row in rows:
                self.stdout.write(json.dumps(row))
        elif rows:
            self.stdout.write(table(columns, rows))

    def say_count(self, key: str, count: int, text: str) -> None:
        self.stdout.write(json.dumps({key: count}) if self._as_json else f"{count} {text}.")


class OperatorCommand(StoreCommand):
    """One action per subparser `name`, done by `do_name`."""

    @property
    def actions(self) -> Actions:
        """What it can do. To be overridden."""
        raise NotImplementedError

    def add_arguments(self, parser: CommandParser) -> None:
        """One subparser per action; store, namespace and `--json` for each."""
        parser.epilog = EPILOG
        actions = parser.add_subparsers(dest="action", required=True, metavar="action")
        for name, (summary, add) in self.actions.items():
            action = actions.add_parser(name, help=summary, description=summary, epilog=EPILOG)
            add_store_options(action)
            add(action)

    def serve(self, **options: Any) -> None:
        """Do the action; what it refuses becomes an exit code."""
        self.check_store(options["store"])
        try:
            self._operator = Operator(
                f"{getpass.getuser()}: manage.py {type(self).__module__.rpartition('.')[2]}",
                using=options["store"],
                namespace=options["namespace"],
            )
            getattr(self, f"do_{options['action'].replace('-', '_')}")(options)
        except (InvalidMessage, CapabilityMissing) as error:
            raise CommandError(str(error), returncode=ExitCode.USAGE) from error
        except StoreUnavailable as error:
            raise CommandError(f"store {options['store']}: {error}", returncode=ExitCode.DATABASE) from error

    def do_dead(self, options: Mapping[str, Any]) -> None:
        """Dead letters, with why and when they died."""
        limit = options["limit"]
        if not 1 <= limit <= MOST_LISTED:
            raise self.usage("--limit", f"a whole number from 1 to {MOST_LISTED}", limit)
        found = self._dead(options["queue"], limit + 1)
        self.show([letter_row(message) for message in found[:limit]], DEAD_COLUMNS)
        if len(found) > limit:
            self.stderr.write(f"There are more than {limit}: narrow the list, or raise --limit.")

    def do_replay(self, options: Mapping[str, Any]) -> None:
        """Let dead letters run again, with all their attempts or with what is left of them."""
        keep = {"keep_attempts": options["keep_attempts"]}
        acting = self._operator
        count = self._with_letters(options, partial(acting.replay, **keep), partial(acting.replay_all, **keep))
        self.say_count("replayed", count, "messages wait again")

    def do_drop(self, options: Mapping[str, Any]) -> None:
        """Delete dead letters for good."""
        self._require_yes(options, "because what is dropped cannot be replayed")
        count = self._with_letters(options, self._operator.drop, self._operator.drop_all)
        self.say_count("dropped", count, "dead letters were deleted")

    def _dead(self, queue: str | None, limit: int) -> list[Message]:
        found: list[Message] = []
        while len(found) < limit:
            page = self._operator.store.operations.dead(
                queue=queue, limit=min(PAGE, limit - len(found)), after=found[-1].id if found else None
            )
            found += page
            if not page:
                break
        return found

    def _with_letters(
        self,
        options: Mapping[str, Any],
        by_id: Callable[..., set[uuid.UUID]],
        by_queue: Callable[..., int],
    ) -> int:
        if bool(options["id"]) == bool(options["queue"]):
            raise self.usage("id", "ids of dead letters, or --queue", options["id"] or "neither")
        if options["queue"]:
            check_queue(options["queue"])
            return by_queue(options["queue"], reason=options["reason"])
        wanted = [self._id(text) for text in options["id"]]
        done = by_id(wanted, reason=options["reason"])
        for missing in [one for one in wanted if one not in done]:
            self.stderr.write(f"no dead letter has the id {missing}")
        return len(done)

    def _id(self, text: str, of: str = "a dead letter") -> uuid.UUID:
        try:
            return uuid.UUID(text)
        except ValueError:
            raise self.usage("id", f"the UUID of {of}", text) from None

    def _require_yes(self, options: Mapping[str, Any], why: str) -> None:
        if not options["yes"]:
            raise self.usage("--yes", f"to be given, {why}", "nothing")


def letter_row(message: Message) -> dict[str, Any]:
    error = message.error
    return {
        "id": str(message.id),
        "queue": message.queue,
        "task": message.task,
        "died_at": message.finished_at and message.finished_at.isoformat(timespec="seconds"),
        "attempts": message.attempts,
        "error": error and f"{error.type}: {error.message}"[:120],
    }


def add_nothing(parser: ArgumentParser) -> None:
    """The action has no options of its own."""


def add_reason(parser: ArgumentParser) -> None:
    parser.add_argument("--reason", default="", metavar="TEXT", help="kept with the record of this act")


def add_dead(parser: ArgumentParser) -> None:
    parser.add_argument("--queue", metavar="NAME", help="of this one; default: all")
    parser.add_argument("--limit", type=int, default=100, metavar="N", help="at most N (default: %(default)s)")


def add_chosen(parser: ArgumentParser) -> None:
    parser.add_argument("id", nargs="*", help="of dead letters")
    parser.add_argument("--queue", metavar="NAME", help="every dead letter of this queue")
    add_reason(parser)


def add_replay(parser: ArgumentParser) -> None:
    add_chosen(parser)
    parser.add_argument(
        "--keep-attempts", action="store_true", help="what was tried stays counted: what is left is left, at least one"
    )


def add_drop(parser: ArgumentParser) -> None:
    add_chosen(parser)
    parser.add_argument("--yes", action="store_true", help="really delete them")


LETTERS: Actions = {
    "list": ("Dead letters, with why and when they died.", add_dead),
    "replay": ("Let dead letters run again, with all their attempts.", add_replay),
    "drop": ("Delete dead letters for good.", add_drop),
}
"""What can be done with dead letters, wherever it is offered."""
