"""`manage.py schedules`: what an operator does with schedules, from a shell."""

from __future__ import annotations

import getpass
import json
from argparse import ArgumentParser
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC
from typing import Any

from django.core.management.base import CommandError, CommandParser

from pg_queue.api import ExitCode, ServiceCommand
from pg_queue.api import text_card as card
from pg_queue.api import text_table as table
from scheduler import api
from scheduler.actor import acting_as
from scheduler.domain import Firer, ScheduleState
from scheduler.explanation import explain
from scheduler.forecast.herd import OCCURRENCES as HERD_OCCURRENCES
from scheduler.management.ahead import forecast_text, preview_text
from scheduler.management.options import instant
from scheduler.recurrence.cadence import MOST_OCCURRENCES
from scheduler.recurrence.zones import time_line
from scheduler.representation import (
    change_fields,
    explanation_fields,
    forecast_fields,
    preview_fields,
    run_fields,
    schedule_fields,
    schedules_fields,
)
from scheduler.settings import scheduler_settings

NOT_FOUND = 5
"""Exit code: no schedule has this id."""
MOST_LISTED, MOST_RUNS = 100_000, 1_000

_EPILOG = (
    "Exit codes: 0 done; 1 unexpected error; 2 wrong usage, input or configuration; 3 database unreachable; "
    "4 not migrated; 5 no such schedule."
)
_LISTED = ("id", "name", "organization", "state", "firer", "expression", "timezone", "last_run_at", "next_run_at")
_CHANGES = ("changed_at", "action", "actor", "fields")
_RUNS = ("scheduled_for", "state", "origin", "occurrences", "fired_at", "started_at", "finished_at")


class Command(ServiceCommand):
    """Look at schedules and change them through the same choke points as REST and the admin."""

    help = "List, show, preview, pause, resume, run and delete schedules. Each action has its own --help."
    app_labels = ("pg_queue", "scheduler")

    def add_arguments(self, parser: CommandParser) -> None:
        """One subparser per action; `--json` for each."""
        parser.epilog = _EPILOG
        actions = parser.add_subparsers(dest="action", required=True, metavar="action")
        for name, (summary, add) in _ACTIONS.items():
            action = actions.add_parser(name, help=summary, description=summary, epilog=_EPILOG)
            action.add_argument("--json", action="store_true", help="one JSON object per line on stdout")
            add(action)

    def serve(self, **options: Any) -> None:
        """Do the action; what it refuses becomes an exit code."""
        try:
            with acting_as(f"{getpass.getuser()}: manage.py schedules"):
                getattr(self, f"do_{options['action']}")(options)
        except (api.InvalidInput, api.BeatUnavailable) as error:
            raise CommandError(str(error), returncode=ExitCode.USAGE) from error
        except api.ScheduleNotFound as error:
            raise CommandError(str(error), returncode=NOT_FOUND) from error

    def do_list(self, options: Mapping[str, Any]) -> None:
        """By organization and name."""
        limit = self._whole("--limit", options["limit"], 1, MOST_LISTED)
        found = api.PgPeriodicSchedule.objects.using(scheduler_settings().database)
        if options["organization"]:
            found = found.for_organizations(options["organization"])
        if options["state"]:
            found = found.in_state(options["state"])
        if options["firer"]:
            found = found.fired_by(Firer(options["firer"]))
        rows = schedules_fields(list(found.order_by("organization_id", "pipeline_name", "pk")[: limit + 1]))
        self._print(rows[:limit], lambda kept: table(_LISTED, kept))
        if len(rows) > limit:
            self.stderr.write(f"There are more than {limit}: narrow the list, or raise --limit.")

    def do_show(self, options: Mapping[str, Any]) -> None:
        """Everything about one, its last runs and what its mirror lacks."""
        most_runs = self._whole("--runs", options["runs"], 0, MOST_RUNS)
        row = api.get_schedule(options["id"])
        latest = row.runs.using(scheduler_settings().database).latest_first()[:most_runs]
        views = [run_fields(view) for view in api.runs_with_live_state(latest)]
        changes = [change_fields(change) for change in api.last_changes(row.pk, 5)]
        failures = [str(failure.error) for failure in api.mirror_failures().of_schedule(row.pk)]
        if options["json"]:
            self._print([{**schedule_fields(row), "runs": views, "changes": changes, "mirror_failures": failures}])
        else:
            self.stdout.write(card(schedule_fields(row)))
            self.stdout.write(f"\n{table(_RUNS, views)}" if views else "\nIt has not run yet.")
            if changes:
                self.stdout.write(f"\n{table(_CHANGES, changes)}")
            for failure in failures:
                self.stdout.write(f"\nIts mirror row was not written: {failure}")

    def do_next(self, options: Mapping[str, Any]) -> None:
        """The occurrences ahead, in UTC and in the schedule's own time zone."""
        row = api.get_schedule(options["id"])
        ahead = api.upcoming(row, options["count"])
        zone = time_line(row.timezone).zone if ahead else UTC
        rows = [{"scheduled_for": f"{at:%Y-%m-%dT%H:%M:%SZ}", "local": at.astimezone(zone).isoformat()} for at in ahead]
        self._print(rows, lambda kept: table(("scheduled_for", "local"), kept))
        if not rows:
            self.stderr.write(f"Nothing is ahead of it: it is {row.state}.")

    def do_preview(self, options: Mapping[str, Any]) -> None:
        """What lies ahead under our rules and Celery Beat's, also around the next clock changes."""
        count = self._whole("--count", options["count"], 1, MOST_OCCURRENCES)
        row = api.get_schedule(options["id"])
        shown = api.preview_of(row, count=max(count, HERD_OCCURRENCES))
        scope = api.ForecastScope(excluded=row.pk)
        herd = api.find_herd(shown.occurrences, jitter_seconds=row.jitter_seconds, scope=scope)
        self._print([preview_fields(shown, count, herd)], lambda kept: preview_text(kept[0]))

    def do_forecast(self, options: Mapping[str, Any]) -> None:
        """How many are fired in each minute ahead, and in which the most."""
        scope = api.ForecastScope(organizations=options["organization"])
        made = api.forecast(hours=options["hours"], top=options["top"], scope=scope)
        self._print([forecast_fields(made)], lambda kept: forecast_text(kept[0]))

    def do_explain(self, options: Mapping[str, Any]) -> None:
        """What became of one occurrence, and why."""
        told = explain(options["id"], instant("--at", options["at"]))
        self._print([explanation_fields(told)], lambda kept: _explanation_text(kept[0]))

    def do_pause(self, options: Mapping[str, Any]) -> None:
        """Fire nothing until it is resumed."""
        until = options["until"] and instant("--until", options["until"])
        self._print_one(api.pause_schedule(options["id"], reason=options["reason"], until=until))

    def do_resume(self, options: Mapping[str, Any]) -> None:
        """Fire again, from the next match after now."""
        self._print_one(api.resume_schedule(options["id"]))

    def do_run(self, options: Mapping[str, Any]) -> None:
        """Run it once, now."""
        views = api.runs_with_live_state([api.run_schedule(options["id"])])
        self._print([run_fields(view) for view in views], lambda kept: card(kept[0]))

    def do_delete(self, options: Mapping[str, Any]) -> None:
        """Delete it; its runs stay."""
        if not options["yes"]:
            raise self.usage("--yes", "to be given, because a deletion cannot be undone", "nothing")
        api.delete_schedule(options["id"])
        self._print([{"id": options["id"], "deleted": True}], lambda kept: f"deleted {kept[0]['id']}")

    def _whole(self, option: str, value: int, least: int, most: int) -> int:
        if not least <= value <= most:
            raise self.usage(option, f"a whole number from {least} to {most}", value)
        return value

    def _print_one(self, row: api.PgPeriodicSchedule) -> None:
        self._print([schedule_fields(row)], lambda kept: table(_LISTED, kept))

    def _print(self, rows: Sequence[Mapping[str, Any]], as_text: Callable[[Any], str] | None = None) -> None:
        if as_text is None or self._as_json:
            for row in rows:
                self.stdout.write(json.dumps(row))
        elif rows:
            self.stdout.write(as_text(rows))


def _explanation_text(told: Mapping[str, Any]) -> str:
    run = told["run"]
    text = card({**told, "sent_at": ", ".join(told["sent_at"]), "run": run and run["id"]})
    return text if run is None else f"{text}\n\n{table(_RUNS, [run])}"


def _add_filters(parser: ArgumentParser) -> None:
    parser.add_argument("--organization", action="append", metavar="ID", help="of this one; may be given repeatedly")
    parser.add_argument("--state", choices=[state.value for state in ScheduleState])
    parser.add_argument("--firer", choices=[firer.value for firer in Firer])
    parser.add_argument("--limit", type=int, default=1000, metavar="N", help="at most N (default: %(default)s)")


def _add_id(parser: ArgumentParser) -> None:
    parser.add_argument("id", help="the schedule's UUID")


def _add_show(parser: ArgumentParser) -> None:
    _add_id(parser)
    parser.add_argument("--runs", type=int, default=10, metavar="N", help="its last N runs (default: %(default)s)")


def _add_next(parser: ArgumentParser) -> None:
    _add_id(parser)
    parser.add_argument("--count", type=int, default=10, metavar="N", help="1 to 1000 (default: %(default)s)")


def _add_forecast(parser: ArgumentParser) -> None:
    parser.add_argument("--hours", type=int, default=24, metavar="N", help="1 to 168 (default: %(default)s)")
    parser.add_argument("--top", type=int, default=10, metavar="N", help="the N busiest minutes (default: %(default)s)")
    parser.add_argument("--organization", action="append", metavar="ID", help="of this one; may be given repeatedly")


def _add_explain(parser: ArgumentParser) -> None:
    _add_id(parser)
    parser.add_argument("--at", required=True, metavar="INSTANT", help="such as 2026-12-24T18:00:00+01:00")


def _add_pause(parser: ArgumentParser) -> None:
    _add_id(parser)
    parser.add_argument("--reason", default="", help="shown with the schedule until it is resumed")
    parser.add_argument("--until", metavar="INSTANT", help="resume by itself then, such as 2026-12-24T18:00:00+01:00")


def _add_delete(parser: ArgumentParser) -> None:
    _add_id(parser)
    parser.add_argument("--yes", action="store_true", help="really delete it")


_ACTIONS: Mapping[str, tuple[str, Callable[[ArgumentParser], None]]] = {
    "list": ("List schedules by organization and name.", _add_filters),
    "show": ("Show everything about one schedule, with its last runs.", _add_show),
    "next": ("Show the next occurrences of a schedule, in UTC and in its own time zone.", _add_next),
    "preview": ("Show what lies ahead here and under Celery Beat's rules, across clock changes.", _add_next),
    "forecast": ("Show in which minutes ahead the most schedules are fired.", _add_forecast),
    "explain": ("Tell what became of the latest occurrence at or before an instant, and why.", _add_explain),
    "pause": ("Fire nothing from now on, until it is resumed.", _add_pause),
    "resume": ("Fire again, from the next match after now: nothing missed is made up for.", _add_id),
    "run": ("Run it once, now, also while it is paused.", _add_id),
    "delete": ("Delete it, and its row in Celery Beat; its runs stay.", _add_delete),
}
