"""`manage.py queue`: what an operator does with queues and dead letters, from a shell."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Mapping
from typing import Any

from pg_queue.api import check_queue, queue_settings
from pg_queue.management.operating import (
    LETTERS,
    Actions,
    OperatorCommand,
    add_nothing,
    add_reason,
)
from pg_queue.ports import QueueDepth
from pg_queue.routes import HERE

_QUEUES = ("queue", "switch", "waiting", "delayed", "running", "dead", "oldest_due_seconds")
_SWITCHES = ("queue", "switch", "changed_at", "changed_by", "reason")


class Command(OperatorCommand):
    """Look at queues, turn them off and on, empty them, and deal with dead letters. Every act is on record."""

    help = "List, switch and purge queues; list, replay and drop dead letters. Each action has its own --help."

    @property
    def actions(self) -> Actions:
        """See `OperatorCommand`."""
        return _ACTIONS

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
        self.show(rows, _SWITCHES)

    def do_depth(self, options: Mapping[str, Any]) -> None:
        """How much waits, runs and is dead, and for how long the oldest has been due."""
        wanted = options["queue"]
        found = [d for d in self._operator.store.depths() if not wanted or d.queue in wanted]
        self.show([{**_figures(depth), "switch": self._switch_of(depth.queue)} for depth in found], _QUEUES)

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
        self.say_count(
            "purged", self._operator.purge(options["queue"], reason=options["reason"]), "messages were cancelled"
        )
        self._tell_of_routes(options["queue"], options["store"])

    def do_drop_events(self, options: Mapping[str, Any]) -> None:
        """Delete events of the outbox that are never to leave."""
        self._require_yes(options, "because what is dropped never leaves")
        wanted = [self._id(text, "an event") for text in options["id"]]
        done = self._operator.drop_events(wanted, reason=options["reason"])
        for missing in [one for one in wanted if one not in done]:
            self.stderr.write(f"no event of the outbox has the id {missing}")
        self.say_count("dropped", len(done), "events were deleted")

    def _turn(self, options: Mapping[str, Any], *, is_on: bool) -> None:
        name = options["queue"]
        if bool(name) == options["all"]:
            raise self.usage("queue", "the name of a queue, or --all", name or "neither")
        if name:
            check_queue(name)
        switch = self._operator.turn(name, is_on=is_on, reason=options["reason"])
        row = {"queue": name or "(all)", "switch": "on" if switch.is_on else "off"}
        self.show([{**row, "changed_at": switch.changed_at.isoformat(timespec="seconds")}], ("queue", "switch"))
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


def _figures(depth: QueueDepth) -> dict[str, Any]:
    names = ("queue", "waiting", "delayed", "running", "dead")
    return {name: getattr(depth, name) for name in names} | {"oldest_due_seconds": round(depth.oldest_due_seconds, 1)}


def _add_queues(parser: ArgumentParser) -> None:
    parser.add_argument("queue", nargs="*", help="these; default: all")


def _add_switch(parser: ArgumentParser) -> None:
    parser.add_argument("queue", nargs="?", help="its name")
    parser.add_argument("--all", action="store_true", help="all queues of the namespace, also those yet to come")
    add_reason(parser)


def _add_purge(parser: ArgumentParser) -> None:
    parser.add_argument("queue", help="its name")
    parser.add_argument("--yes", action="store_true", help="really cancel what waits")
    add_reason(parser)


def _add_drop_events(parser: ArgumentParser) -> None:
    parser.add_argument("id", nargs="+", help="of events; of a message that is routed away, the message's")
    parser.add_argument("--yes", action="store_true", help="really delete them")
    add_reason(parser)


_ACTIONS: Actions = {
    "list": ("Queues that have messages or a switch, and whether they are on.", add_nothing),
    "depth": ("How much waits, runs and is dead, and how long the oldest has been due.", _add_queues),
    "off": ("Claim nothing new from a queue; what runs goes on.", _add_switch),
    "on": ("Claim from a queue again.", _add_switch),
    "purge": ("Cancel everything that waits in a queue.", _add_purge),
    "dead": LETTERS["list"],
    "replay": LETTERS["replay"],
    "drop": LETTERS["drop"],
    "drop-events": ("Delete events of the outbox that are never to leave.", _add_drop_events),
}
