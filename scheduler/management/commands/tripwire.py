"""`manage.py tripwire`: the guard of Celery Beat's rows, looked at, removed, and put back."""

from __future__ import annotations

import getpass
import json
from argparse import ArgumentParser
from collections.abc import Mapping
from typing import Any

from django.core.management.base import CommandError, CommandParser

from pg_queue.api import ExitCode
from pg_queue.api import text_card as card
from pg_queue.api import text_table as table
from scheduler import clock
from scheduler.beat import trigger
from scheduler.beat.trigger import GuardState
from scheduler.domain import Firer
from scheduler.management.beat_command import BeatCommand
from scheduler.models import BeatCatch, PgPeriodicSchedule
from scheduler.representation import catch_fields
from scheduler.settings import scheduler_settings

LAST = 10
"""Catches that `status` shows."""

_EPILOG = (
    "Exit codes: 0 done; 1 unexpected error; 2 wrong usage or configuration; 3 database unreachable; 4 not migrated."
)
_CATCHES = ("caught_at", "what", "beat_name", "role", "application_name", "client_address", "process_id")
_ACTIONS = {
    "status": "Tell whether the tripwire is there, and what it caught last.",
    "remove": "Remove it; it stays removed, whatever is migrated, until it is restored.",
    "restore": "Put it back, and disable the rows that were enabled meanwhile.",
}
_NOTHING = "Nothing is guarded here: django-celery-beat's table is not in this database."


class Command(BeatCommand):
    """Look at the guard of Beat's rows, remove it and restore it."""

    help = (
        "The tripwire keeps Celery Beat's row disabled for every schedule that PG fires, whoever enables it, and notes "
        "who it was."
    )
    app_labels = ("pg_queue", "scheduler")

    def add_arguments(self, parser: CommandParser) -> None:
        """One subparser per action."""
        parser.epilog = _EPILOG
        actions = parser.add_subparsers(dest="action", required=True, metavar="action")
        for name, summary in _ACTIONS.items():
            action = actions.add_parser(name, help=summary, description=summary, epilog=_EPILOG)
            action.add_argument("--json", action="store_true", help="one JSON object on stdout")
            if name == "remove":
                _add_yes(action)

    def serve(self, **options: Any) -> None:
        """Do the action."""
        getattr(self, f"do_{options['action']}")(options)

    def do_status(self, options: Mapping[str, Any]) -> None:
        """State, what it guards, and what it caught last."""
        alias = scheduler_settings().database
        tables = trigger.find_tables(alias)
        caught = BeatCatch.objects.using(alias).order_by("-caught_at", "-id")
        fields = {
            "state": tables.state.value,
            "removed": tables.removal,
            "schedules_of_pg": _schedules_of_pg(),
            "catches": caught.count(),
        }
        last = [catch_fields(one) for one in caught[:LAST]]
        if options["json"]:
            self.stdout.write(json.dumps({**fields, "last": last}))
            return
        self.stdout.write(card(fields))
        if last:
            self.stdout.write(f"\n{table(_CATCHES, last)}")

    def do_remove(self, options: Mapping[str, Any]) -> None:
        """Remove it, if that is meant."""
        if not options["yes"]:
            expected = (
                f"to be given, because without the tripwire Celery Beat fires, too, whichever of the "
                f"{_schedules_of_pg()} schedules of PG is enabled there: in its admin, by SQL, or by a running Beat "
                "that writes back a stale row"
            )
            raise self.usage("--yes", expected, "nothing")
        alias = scheduler_settings().database
        note = f"removed by {getpass.getuser()} at {clock.now(alias):%Y-%m-%d %H:%M:%S} UTC"
        self._refuse_idle(trigger.remove(alias, note))
        self._say(options, f"The tripwire is gone ({note}). `manage.py tripwire restore` puts it back.", removed=note)

    def do_restore(self, options: Mapping[str, Any]) -> None:
        """Put it back."""
        alias = scheduler_settings().database
        self._refuse_idle(trigger.find_tables(alias))
        disabled = trigger.restore(alias)
        self._say(
            options, f"The tripwire is armed; rows of Beat's that it had to disable: {disabled}.", disabled=disabled
        )

    def _refuse_idle(self, tables: trigger.Tables) -> None:
        if tables.state is GuardState.IDLE:
            raise CommandError(_NOTHING, returncode=ExitCode.USAGE)

    def _say(self, options: Mapping[str, Any], sentence: str, **fields: Any) -> None:
        state = trigger.find_tables(scheduler_settings().database).state.value
        self.stdout.write(json.dumps({"state": state, **fields}) if options["json"] else sentence)


def _add_yes(parser: ArgumentParser) -> None:
    parser.add_argument("--yes", action="store_true", help="really remove it")


def _schedules_of_pg() -> int:
    return PgPeriodicSchedule.objects.using(scheduler_settings().database).fired_by(Firer.PG).count()
