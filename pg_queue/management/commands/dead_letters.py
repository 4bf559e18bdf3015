"""`manage.py dead_letters`: why and when messages died, and what is to become of them."""

from __future__ import annotations

import json
import uuid
from argparse import ArgumentParser
from collections.abc import Mapping
from typing import Any

from django.core.management.base import CommandError

from pg_queue.api import check_queue
from pg_queue.domain import Message
from pg_queue.management.operating import LETTERS, Actions, OperatorCommand, add_reason
from pg_queue.process import ExitCode
from pg_queue.text import card


class Command(OperatorCommand):
    """Look at dead letters, let them run again, or delete them. Every act is on record."""

    help = "List, show, count, replay, drop and purge dead letters. Each action has its own --help."

    @property
    def actions(self) -> Actions:
        """See `OperatorCommand`."""
        return _ACTIONS

    do_list = OperatorCommand.do_dead

    def do_show(self, options: Mapping[str, Any]) -> None:
        """Everything that is kept of one."""
        wanted = self._id(options["id"])
        message = self._find(wanted)
        if message is None:
            raise CommandError(f"no dead letter has the id {wanted}", returncode=ExitCode.NOT_FOUND)
        fields = _whole(message)
        self.stdout.write(json.dumps(fields) if self._as_json else _as_card(fields))

    def do_count(self, options: Mapping[str, Any]) -> None:
        """How many there are, by queue."""
        wanted = options["queue"]
        found = [d for d in self._operator.store.depths() if d.dead and (not wanted or d.queue in wanted)]
        self.show([{"queue": depth.queue, "dead": depth.dead} for depth in found], ("queue", "dead"))

    def do_purge(self, options: Mapping[str, Any]) -> None:
        """Delete every dead letter of a queue, or of all."""
        if bool(options["queue"]) == options["all"]:
            raise self.usage("--queue", "the name of a queue, or --all", options["queue"] or "neither")
        self._require_yes(options, "because what is purged cannot be replayed")
        queues = [options["queue"]] if options["queue"] else [d.queue for d in self._operator.store.depths() if d.dead]
        for queue in queues:
            check_queue(queue)
        count = sum(self._operator.drop_all(queue, reason=options["reason"]) for queue in queues)
        self.say_count("purged", count, "dead letters were deleted")

    def _find(self, wanted: uuid.UUID) -> Message | None:
        """By the id before it: what comes after that one is this one, if it is there."""
        before = uuid.UUID(int=wanted.int - 1) if wanted.int else None
        page = self._operator.store.operations.dead(limit=1, after=before)
        return page[0] if page and page[0].id == wanted else None


def _whole(message: Message) -> dict[str, Any]:
    died_at = message.finished_at
    error = message.error
    return {
        "id": str(message.id),
        "task": message.task,
        "queue": message.queue,
        "priority": message.priority,
        "organization": message.organization_id,
        "attempts": message.attempts,
        "max_attempts": message.max_attempts,
        "enqueued_at": message.enqueued_at.isoformat(),
        "died_at": died_at and died_at.isoformat(),
        "error": error and error.type,
        "message": error and error.message,
        "traceback": error and error.traceback,
        "args": message.args,
        "kwargs": message.kwargs,
        "headers": message.headers,
        "key": message.key,
        "report_to": message.report_to,
    }


def _as_card(fields: dict[str, Any]) -> str:
    texts = {name: json.dumps(value) if isinstance(value, list | dict) else value for name, value in fields.items()}
    traceback = texts.pop("traceback")
    return "\n\n".join(filter(None, [card(texts), traceback]))


def _add_show(parser: ArgumentParser) -> None:
    parser.add_argument("id", help="of a dead letter")


def _add_count(parser: ArgumentParser) -> None:
    parser.add_argument("queue", nargs="*", help="these; default: all")


def _add_purge(parser: ArgumentParser) -> None:
    parser.add_argument("--queue", metavar="NAME", help="every dead letter of this one")
    parser.add_argument("--all", action="store_true", help="of all queues")
    parser.add_argument("--yes", action="store_true", help="really delete them")
    add_reason(parser)


_ACTIONS: Actions = {
    **LETTERS,
    "show": ("Everything that is kept of one, with its arguments and its error's traceback.", _add_show),
    "count": ("How many there are, by queue.", _add_count),
    "purge": ("Delete every dead letter of a queue, or of all, for good.", _add_purge),
}
