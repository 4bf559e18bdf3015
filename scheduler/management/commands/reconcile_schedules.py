"""`manage.py reconcile_schedules`: differences between schedules and Celery Beat's rows, listed and repaired."""

from __future__ import annotations

import getpass
import json
from collections import Counter
from typing import Any

from django.core.management.base import CommandError, CommandParser

from pg_queue.api import ExitCode
from pg_queue.api import text_table as table
from scheduler import validation
from scheduler.actor import acting_as
from scheduler.errors import BeatUnavailable, InvalidInput, ScheduleNotFound
from scheduler.management.beat_command import BeatCommand
from scheduler.management.commands.schedules import NOT_FOUND
from scheduler.management.options import refusal
from scheduler.reconciliation import Difference, Outcome, reconcile

NOT_REPAIRED = ExitCode.DUTY_FAILED
"""Exit code: something could not be repaired; the rest was."""
_COLUMNS = ("name", "id", "what", "outcome", "changes")
_EPILOG = (
    "Exit codes: 0 nothing is left to repair; 1 unexpected error; 2 wrong usage or configuration; 3 database "
    "unreachable; 4 not migrated; 5 no such schedule; 6 something could not be repaired, the rest was."
)


class Command(BeatCommand):
    """Do now, and for all, what the reaper's duty `reconcile` does each minute."""

    help = (
        "Compare schedules with their rows in Celery Beat, and put right what differs: the mirror of a schedule that "
        "Beat fires, and Beat's disabled row of one that is fired here. What is being handed over is left alone."
    )
    app_labels = ("pg_queue", "scheduler")

    def add_arguments(self, parser: CommandParser) -> None:
        """What to look at, and how to say it."""
        parser.epilog = _EPILOG
        parser.add_argument("--dry-run", action="store_true", help="say what would be repaired, and store nothing")
        parser.add_argument("--schedule", action="append", metavar="ID", help="this one; may be given repeatedly")
        parser.add_argument("--json", action="store_true", help="one JSON object per line on stdout")

    def serve(self, **options: Any) -> None:
        """Repair, and report each difference; exits with 6 where one is left."""
        try:
            wanted = options["schedule"] and [validation.schedule_id(one) for one in options["schedule"]]
            with acting_as(f"{getpass.getuser()}: manage.py reconcile_schedules"):
                found = sorted(reconcile(wanted, is_dry_run=options["dry_run"]), key=lambda one: one.beat_name)
        except InvalidInput as error:
            raise CommandError(refusal(error), returncode=ExitCode.USAGE) from error
        except BeatUnavailable as error:
            raise CommandError(str(error), returncode=ExitCode.USAGE) from error
        except ScheduleNotFound as error:
            raise CommandError(str(error), returncode=NOT_FOUND) from error
        counts = Counter(one.outcome for one in found)
        if options["json"]:
            self._print_json(found, counts, is_dry_run=options["dry_run"])
        else:
            self._print_text(found, counts)
        if left := counts[Outcome.FAILED] + counts[Outcome.WAITING]:
            raise CommandError(f"{left} of {len(found)} differences could not be repaired", returncode=NOT_REPAIRED)

    def _print_json(self, found: list[Difference], counts: Counter[Outcome], *, is_dry_run: bool) -> None:
        for one in found:
            self.stdout.write(json.dumps({"event": "drift", **_fields(one), "details": one.details}))
        summary = {outcome.value: counts[outcome] for outcome in Outcome}
        self.stdout.write(json.dumps({"event": "summary", "dry_run": is_dry_run, **summary}))

    def _print_text(self, found: list[Difference], counts: Counter[Outcome]) -> None:
        if not found:
            self.stdout.write("Nothing differs.")
            return
        self.stdout.write(table(_COLUMNS, [{**_fields(one), "changes": _changes(one)} for one in found]) + "\n")
        for one in found:
            if one.error:
                self.stdout.write(f"{one.beat_name}: {one.error}")
        if would := counts[Outcome.FOUND]:
            self.stdout.write(f"{would} would be repaired.")
        if repaired := counts[Outcome.REPAIRED]:
            self.stdout.write(f"{repaired} repaired.")


def _fields(one: Difference) -> dict[str, Any]:
    return {
        "id": str(one.schedule_id),
        "name": one.beat_name,
        "organization": one.organization_id or None,
        "what": one.what.value,
        "outcome": one.outcome.value,
        "error": one.error or None,
    }


def _changes(one: Difference) -> str:
    told = (f"{column}: {_short(change)}" for column, change in one.details.items())
    return "; ".join(told)


def _short(change: Any) -> str:
    if isinstance(change, list) and len(change) == 2:
        return " → ".join(json.dumps(value, ensure_ascii=False) for value in change)
    return str(change)
