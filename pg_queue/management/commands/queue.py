"""`manage.py queue`: what an operator does with queues and dead letters, from a shell."""

from __future__ import annotations

import getpass
import json
import uuid
from argparse import ArgumentParser
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from django.core.management.base import CommandError, CommandParser

from pg_queue.api import Operator, check_queue, queue_settings
from pg_queue.domain import Message
from pg_queue.errors import CapabilityMissing, InvalidMessage, StoreUnavailable
from pg_queue.ports import QueueDepth
from pg_queue.process import ExitCode, ServiceCommand
from pg_queue.routes import HERE
from pg_queue.text import table

MOST_LISTED = 100_000
PAGE = 1000
_EPILOG = (
    "Exit codes: 0 done; 1 unexpected error; 2 wrong usage, input or configuration; 3 database or store unreachable; "
    "4 not migrated."
)
_QUEUES = ("queue", "switch", "waiting", "delayed", "running", "dead", "oldest_due_seconds")
_SWITCHES = ("queue", "switch", "changed_at", "changed_by", "reason")
_DEAD = ("id", "queue", "task", "died_at", "attempts", "error")


class Command(ServiceCommand):
    """Look at queues, turn them off and on, empty them, and deal with dead letters. Every act is on record."""

    help = "List, switch and purge queues; list, replay and drop dead letters. Each action has its own --help."

    def add_arguments(self, parser: CommandParser) -> None:
        """One subparser per action; store, namespace and `--json` for each."""
        parser.epilog = _EPILOG
        actions = parser.add_subparsers(dest="action", required=True, metavar="action")
        for name, (summary, add) in _ACTIONS.items():
            action = actions.add_parser(name, help=summary, description=summary, epilog=_EPILOG)
            action.add_argument("--store", default="default", metavar="ALIAS", help="of PG_QUEUE['STORES']")
            action.add_argument("--namespace", metavar="NAME", help="default: the store's own")
            action.add_argument("--json", action="store_true", help="one JSON object per line on stdout")
            add(action)

    def serve(self, **options: Any) -> None:
        """Do the action; what it refuses becomes an exit code."""
        self._check_store(options["store"])
        try:
            self._operator = Operator(
                f"{getpass.getuser()}: manage.py queue", using=options["store"], namespace=options["namespace"]
            )
            getattr(self, f"do_{options['action'].replace('-', '_')}")(options)
        except (InvalidMessage, CapabilityMissing) as error:
            raise CommandError(str(error), returncode=ExitCode.USAGE) from error
        except StoreUnavailable as error:
            raise CommandError(f"store {options['store']}: {error}", returncode=ExitCode.DATABASE) from error

    def do_list(self, options: Mapping[str, Any]) -> None:
        """Queues that have messages or a switch, and whether they are on."""
        switches = {one.queue: one for one in self._operator.store.switches.list()}
        names = {depth.queue for depth in self._operator.store.depths()} | {q for q in switches if q is not None}
        rows = []
        for name in [*([None] if None in switches else []), *sorted(names)]:
            switch = switches.get(name)
            rows.append(
                {
                    "queue": name or "(all)",
                    "switch": self._switch_of(name),
                    "changed_at": switch and switch.changed_at.isoformat(timespec="seconds"),
                    "changed_by": switch and switch.changed_by,
                    "reason": switch and switch.reason,
                }
            )
        self._print(rows, _SWITCHES)

    def do_depth(self, options: Mapping[str, Any]) -> None:
        """How much waits, runs and is dead, and for how long the oldest has been due."""
        wanted = options["queue"]
        found = [d for d in self._operator.store.depths() if not wanted or d.queue in wanted]
        self._print([{**_figures(depth), "switch": self._switch_of(depth.queue)} for depth in found], _QUEUES)

    def do_off(self, options: Mapping[str, Any]) -> None:
        """Nothing new is claimed from it; what runs goes on."""
        self._turn(options, is_on=False)

    def do_on(self, options: Mapping[str, Any]) -> None:
        """Claimed from again, at once."""
        self._turn(options, is_on=True)

    def do_purge(self, options: Mapping[str, Any]) -> None:
        """Cancel everything that waits in a queue."""
        check_queue(options["queue"])
        self._require_yes(options, "because what is cancelled is not run again")
        self._say("purged", self._operator.purge(options["queue"], reason=options["reason"]), "messages were cancelled")
        self._tell_of_routes(options["queue"], options["store"])

    def do_dead(self, options: Mapping[str, Any]) -> None:
        """Dead letters, with why and when they died."""
        limit = options["limit"]
        if not 1 <= limit <= MOST_LISTED:
            raise self.usage("--limit", f"a whole number from 1 to {MOST_LISTED}", limit)
        found = self._dead(options["queue"], limit + 1)
        self._print([_letter(message) for message in found[:limit]], _DEAD)
        if len(found) > limit:
            self.stderr.write(f"There are more than {limit}: narrow the list, or raise --limit.")

    def do_replay(self, options: Mapping[str, Any]) -> None:
        """Let dead letters run again, with all their attempts."""
        count = self._with_letters(options, self._operator.replay, self._operator.replay_all)
        self._say("replayed", count, "messages wait again")

    def do_drop(self, options: Mapping[str, Any]) -> None:
        """Delete dead letters for good."""
        self._require_yes(options, "because what is dropped cannot be replayed")
        count = self._with_letters(options, self._operator.drop, self._operator.drop_all)
        self._say("dropped", count, "dead letters were deleted")

    def do_drop_events(self, options: Mapping[str, Any]) -> None:
        """Delete events of the outbox that are never to leave."""
        self._require_yes(options, "because what is dropped never leaves")
        wanted = [self._id(text, "an event") for text in options["id"]]
        done = self._operator.drop_events(wanted, reason=options["reason"])
        for missing in [one for one in wanted if one not in done]:
            self.stderr.write(f"no event of the outbox has the id {missing}")
        self._say("dropped", len(done), "events were deleted")

    def _turn(self, options: Mapping[str, Any], *, is_on: bool) -> None:
        name = options["queue"]
        if bool(name) == options["all"]:
            raise self.usage("queue", "the name of a queue, or --all", name or "neither")
        if name:
            check_queue(name)
        switch = self._operator.turn(name, is_on=is_on, reason=options["reason"])
        row = {"queue": name or "(all)", "switch": "on" if switch.is_on else "off"}
        self._print([{**row, "changed_at": switch.changed_at.isoformat(timespec="seconds")}], ("queue", "switch"))
        if is_on and self._switch_of(name) == "off":
            self.stderr.write("All queues of the namespace are off: `queue on --all` turns them on.")
        if not is_on:
            self._tell_of_routes(name, options["store"])

    def _tell_of_routes(self, name: str | None, alias: str) -> None:
        """Say what this act does not reach: what is in the outbox, and in the system that it leads to."""
        routes = queue_settings().routing
        topics = routes.topics if name is None else [topic for topic in [routes.topic_of(name)] if topic]
        if topics and alias == HERE:
            self.stderr.write(
                f"What is routed away ({', '.join(topics)}) goes on leaving and being executed there: pause its "
                "schedules, or stop the workers of that system."
            )

    def _switch_of(self, name: str | None) -> str:
        switches = {one.queue: one.is_on for one in self._operator.store.switches.list()}
        return "on" if switches.get(None, True) and switches.get(name, True) else "off"

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

    def _check_store(self, alias: str) -> None:
        if alias not in queue_settings().places:
            known = ", ".join(sorted(queue_settings().places))
            raise self.usage("--store", f"an alias of PG_QUEUE['STORES'] ({known})", alias)

    def _print(self, rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> None:
        if self._as_json:
            for row in rows:
                self.stdout.write(json.dumps(row))
        elif rows:
            self.stdout.write(table(columns, rows))

    def _say(self, key: str, count: int, text: str) -> None:
        self.stdout.write(json.dumps({key: count}) if self._as_json else f"{count} {text}.")


def _figures(depth: QueueDepth) -> dict[str, Any]:
    names = ("queue", "waiting", "delayed", "running", "dead")
    return {name: getattr(depth, name) for name in names} | {"oldest_due_seconds": round(depth.oldest_due_seconds, 1)}


def _letter(message: Message) -> dict[str, Any]:
    error = message.error
    return {
        "id": str(message.id),
        "queue": message.queue,
        "task": message.task,
        "died_at": message.finished_at and message.finished_at.isoformat(timespec="seconds"),
        "attempts": message.attempts,
        "error": error and f"{error.type}: {error.message}"[:120],
    }


def _add_nothing(parser: ArgumentParser) -> None:
    """The action has no options of its own."""


def _add_queues(parser: ArgumentParser) -> None:
    parser.add_argument("queue", nargs="*", help="these; default: all")


def _add_switch(parser: ArgumentParser) -> None:
    parser.add_argument("queue", nargs="?", help="its name")
    parser.add_argument("--all", action="store_true", help="all queues of the namespace, also those yet to come")
    _add_reason(parser)


def _add_reason(parser: ArgumentParser) -> None:
    parser.add_argument("--reason", default="", metavar="TEXT", help="kept with the record of this act")


def _add_purge(parser: ArgumentParser) -> None:
    parser.add_argument("queue", help="its name")
    parser.add_argument("--yes", action="store_true", help="really cancel what waits")
    _add_reason(parser)


def _add_dead(parser: ArgumentParser) -> None:
    parser.add_argument("--queue", metavar="NAME", help="of this one; default: all")
    parser.add_argument("--limit", type=int, default=100, metavar="N", help="at most N (default: %(default)s)")


def _add_replay(parser: ArgumentParser) -> None:
    parser.add_argument("id", nargs="*", help="of dead letters")
    parser.add_argument("--queue", metavar="NAME", help="every dead letter of this queue")
    _add_reason(parser)


def _add_drop(parser: ArgumentParser) -> None:
    _add_replay(parser)
    parser.add_argument("--yes", action="store_true", help="really delete them")


def _add_drop_events(parser: ArgumentParser) -> None:
    parser.add_argument("id", nargs="+", help="of events; of a message that is routed away, the message's")
    parser.add_argument("--yes", action="store_true", help="really delete them")
    _add_reason(parser)


_ACTIONS: dict[str, tuple[str, Callable[[ArgumentParser], None]]] = {
    "list": ("Queues that have messages or a switch, and whether they are on.", _add_nothing),
    "depth": ("How much waits, runs and is dead, and how long the oldest has been due.", _add_queues),
    "off": ("Claim nothing new from a queue; what runs goes on.", _add_switch),
    "on": ("Claim from a queue again.", _add_switch),
    "purge": ("Cancel everything that waits in a queue.", _add_purge),
    "dead": ("Dead letters, with why and when they died.", _add_dead),
    "replay": ("Let dead letters run again, with all their attempts.", _add_replay),
    "drop": ("Delete dead letters for good.", _add_drop),
    "drop-events": ("Delete events of the outbox that are never to leave.", _add_drop_events),
}
