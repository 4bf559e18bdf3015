"""`manage.py cutover`: schedules handed over from Celery Beat to PG, and back."""

from __future__ import annotations

import getpass
import json
import time
from argparse import ArgumentParser
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from django.core.management.base import CommandError, CommandParser

from pg_queue.api import ExitCode
from pg_queue.api import text_card as card
from pg_queue.api import text_table as table
from scheduler import api
from scheduler.cutover import complete_arrivals, complete_returns, finish
from scheduler.cutover.finish import Finish
from scheduler.management.beat_command import BeatCommand
from scheduler.management.commands.schedules import NOT_FOUND
from scheduler.management.options import number, refusal
from scheduler.representation import answer_fields, status_fields

_EPILOG = (
    "Exit codes: 0 done; 1 unexpected error; 2 wrong usage or configuration; 3 database unreachable; 4 not migrated; "
    "5 no such schedule; 6 refused, or not done within --wait."
)
_ACTIONS = {
    "status": "Tell who fires how many, which Beats live, what is under way, and what was done last.",
    "plan": "Tell what `promote` would do with each schedule, and why not. Changes nothing.",
    "promote": "Have PG fire schedules that Celery Beat fires.",
    "rollback": "Have Celery Beat fire schedules again that were handed over.",
    "finish": "Check that nothing is left with Celery Beat, and tell how to remove it. Changes nothing.",
    "ramp": "Have PG fire so many per cent of the schedules, no more and no fewer.",
}
_COLUMNS = ("schedule", "name", "to", "status", "reason")
_HANDOVERS = ("requested_at", "name", "to", "method", "state", "actor", "reason")
_NOBODY = "No schedule is concerned."
_POLL_SECONDS = 0.25


class Command(BeatCommand):
    """Hand schedules over, and back."""

    help = "Hand schedules over from Celery Beat to PG, one by one, by organization or by percentage, and back."
    app_labels = ("pg_queue", "scheduler")

    def add_arguments(self, parser: CommandParser) -> None:
        """One subparser per action."""
        parser.epilog = _EPILOG
        actions = parser.add_subparsers(dest="action", required=True, metavar="action")
        for name, summary in _ACTIONS.items():
            action = actions.add_parser(name, help=summary, description=summary, epilog=_EPILOG)
            action.add_argument("--json", action="store_true", help="one JSON object on stdout")
            if name != "finish":
                action.add_argument("--organization", action="append", metavar="ID", help="may be given repeatedly")
            _ADD[name](action)

    def serve(self, **options: Any) -> None:
        """Do the action."""
        try:
            with api.acting_as(f"cutover, {getpass.getuser()}"):
                getattr(self, f"do_{options['action']}")(options)
        except (api.InvalidInput, api.BeatUnavailable) as error:
            raise CommandError(refusal(error), returncode=ExitCode.USAGE) from error
        except api.ScheduleNotFound as error:
            raise CommandError(str(error), returncode=NOT_FOUND) from error
        except api.HandoverRefused as error:
            raise CommandError(str(error), returncode=ExitCode.DUTY_FAILED) from error

    def do_status(self, options: Mapping[str, Any]) -> None:
        """Counts, Beats, what is under way, what was last."""
        found = api.cutover_status(options["organization"])
        fields = status_fields(found)
        if options["json"]:
            self.stdout.write(json.dumps(fields))
            return
        waiting, latest = fields.pop("waiting"), fields.pop("latest")
        beats = ", ".join(f"{one['host']} {one['process_id']} ({one['mode']})" for one in fields.pop("live_beats"))
        self.stdout.write(card({**fields, "live_beats": beats}))
        for title, rows in (("under way", waiting), ("last", latest)):
            if rows:
                self.stdout.write(f"\n{title}\n{table(_HANDOVERS, rows)}")
        for one in waiting:
            if one["hint"]:
                self.stdout.write(f"{one['name']}: {one['hint']}")

    def do_finish(self, options: Mapping[str, Any]) -> None:
        """What is left, or what is to be done."""
        found = finish()
        left = [{"kind": one.kind.value, "name": one.name, "hint": one.hint} for one in found.left]
        if options["json"]:
            self.stdout.write(json.dumps({"left": left, "notes": found.notes, "steps": found.steps}))
        else:
            self._print_finish(left, found)
        if left:
            raise CommandError(f"{len(left)} left with Celery Beat", returncode=ExitCode.DUTY_FAILED)

    def _print_finish(self, left: Sequence[Mapping[str, Any]], found: Finish) -> None:
        if left:
            self.stdout.write(table(("kind", "name", "hint"), left))
        else:
            steps = [f"{number}. {step}" for number, step in enumerate(found.steps, start=1)]
            self.stdout.write("\n".join(["Nothing is left with Celery Beat.", *steps]))
        for note in found.notes:
            self.stdout.write(f"Note: {note}.")

    def do_plan(self, options: Mapping[str, Any]) -> None:
        """What would become of each."""
        self._print(api.plan_promotion(self._chosen(options), is_forced=options["force"]), options)

    def do_promote(self, options: Mapping[str, Any]) -> None:
        """To PG."""
        self._require_choice(options)
        answers = api.promote(
            self._chosen(options),
            is_forced=options["force"],
            reason=options["reason"],
            is_beat_stopped=options["beat_stopped"],
        )
        self._finish(answers, options)

    def do_rollback(self, options: Mapping[str, Any]) -> None:
        """To Beat."""
        self._require_choice(options)
        self._finish(api.roll_back(self._chosen(options), reason=options["reason"]), options)

    def do_ramp(self, options: Mapping[str, Any]) -> None:
        """To a percentage."""
        answers = api.ramp(
            options["percent"],
            organizations=options["organization"],
            is_forced=options["force"],
            reason=options["reason"],
            is_beat_stopped=options["beat_stopped"],
        )
        self._finish(answers, options)

    def _chosen(self, options: Mapping[str, Any]) -> Any:
        if options["all"] and (given := _given(options)):
            raise self.usage("--all", "to be given alone, because it means every schedule", ", ".join(given))
        return api.chosen(
            schedules=options["schedule"], organizations=options["organization"], percent=options["percent"]
        )

    def _require_choice(self, options: Mapping[str, Any]) -> None:
        if not options["all"] and not _given(options):
            raise self.usage("--all", "to be given, or --schedule, --organization or --percent", "nothing")

    def _finish(self, answers: Sequence[api.HandoverAnswer], options: Mapping[str, Any]) -> None:
        """Wait for what waits, print, and end with 6 where something is not as it was asked for."""
        answers = _wait(answers, options["wait"])
        self._print(answers, options)
        undone = [one for one in answers if one.status in {api.HandoverStatus.REFUSED, api.HandoverStatus.WAITING}]
        if undone and (options["wait"] > 0 or any(one.is_refused for one in undone)):
            raise CommandError(_describe(undone), returncode=ExitCode.DUTY_FAILED)

    def _print(self, answers: Sequence[api.HandoverAnswer], options: Mapping[str, Any]) -> None:
        rows = [answer_fields(one) for one in answers]
        if options["json"]:
            self.stdout.write(json.dumps({"schedules": rows}))
        elif rows:
            self.stdout.write(table(_COLUMNS, rows))
        else:
            of = ", ".join(options["organization"] or ())
            self.stdout.write(f"No schedule of the organization {of} is concerned." if of else _NOBODY)


def _given(options: Mapping[str, Any]) -> list[str]:
    return [f"--{name}" for name in ("schedule", "organization", "percent") if options[name] is not None]


def _wait(answers: Sequence[api.HandoverAnswer], seconds: float) -> list[api.HandoverAnswer]:
    """Go on with what waits, as the reaper does, until it is done or the time is up."""
    deadline = time.monotonic() + seconds
    made = list(answers)
    while any(one.status is api.HandoverStatus.WAITING for one in made) and time.monotonic() < deadline:
        complete_arrivals()
        complete_returns()
        made = [_look_again(one) for one in made]
        time.sleep(_POLL_SECONDS)
    return made


def _look_again(answer: api.HandoverAnswer) -> api.HandoverAnswer:
    if answer.status is not api.HandoverStatus.WAITING or answer.handover is None:
        return answer
    answer.handover.refresh_from_db()
    return replace(answer, status=api.HandoverStatus(answer.handover.state))


def _describe(undone: Sequence[api.HandoverAnswer]) -> str:
    refused = sum(one.is_refused for one in undone)
    told = [f"{refused} refused"] if refused else []
    if waiting := len(undone) - refused:
        told.append(f"{waiting} not done yet: `manage.py cutover status` tells how far they are")
    return "; ".join(told)


_percent = number("a number from 0 to 100", 0, 100)
_seconds = number("a number of seconds, 0 or more", 0)


def _add_choice(action: ArgumentParser) -> None:
    action.add_argument("--schedule", action="append", metavar="ID", help="this one; may be given repeatedly")
    action.add_argument("--percent", type=_percent, metavar="P", help="those whose bucket is below P, 0 to 100")
    action.add_argument("--all", action="store_true", help="all of them; with no other choice")


def _add_force(action: ArgumentParser) -> None:
    action.add_argument("--force", action="store_true", help="without the evidence; it is recorded that it was so")


def _add_change(action: ArgumentParser) -> None:
    action.add_argument("--reason", default="", metavar="TEXT", help="why; kept with the hand-over")
    wait = "go on until it is done, at most so long; 0: leave that to the reaper (default: %(default)g)"
    action.add_argument("--wait", type=_seconds, default=30.0, metavar="SECONDS", help=wait)


def _add_promotion(action: ArgumentParser) -> None:
    _add_force(action)
    _add_change(action)
    action.add_argument("--beat-stopped", action="store_true", help="no Celery Beat runs, with our app or without")


def _add_plan(action: ArgumentParser) -> None:
    _add_choice(action)
    _add_force(action)


def _add_promote(action: ArgumentParser) -> None:
    _add_choice(action)
    _add_promotion(action)


def _add_rollback(action: ArgumentParser) -> None:
    _add_choice(action)
    _add_change(action)


def _add_ramp(action: ArgumentParser) -> None:
    action.add_argument("--percent", type=_percent, required=True, metavar="P", help="0 to 100")
    _add_promotion(action)


_ADD = {
    "finish": lambda action: None,
    "status": lambda action: None,
    "plan": _add_plan,
    "promote": _add_promote,
    "rollback": _add_rollback,
    "ramp": _add_ramp,
}
