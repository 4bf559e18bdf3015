"""`manage.py compare_runs`: Celery Beat's runs beside what the tick would have fired."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.utils import timezone

from pg_queue.api import ExitCode
from pg_queue.api import text_table as table
from scheduler import api
from scheduler.comparison import Comparison, Verdict, compare
from scheduler.comparison.report import as_html, as_json
from scheduler.management.beat_command import BeatCommand
from scheduler.management.commands.schedules import NOT_FOUND
from scheduler.management.options import instant, refusal

_COLUMNS = ("schedule", "ready", *(verdict.value for verdict in Verdict), "first divergence")


class Command(BeatCommand):
    """Compare, and print a table, JSON or a page."""

    help = (
        "Lay what Celery Beat sent beside what the tick would have fired, occurrence by occurrence, and name the cause "
        "of each difference."
    )
    app_labels = ("pg_queue", "scheduler")

    def add_arguments(self, parser: CommandParser) -> None:
        """The window, the schedules, the form."""
        parser.add_argument("--since", metavar="INSTANT", help="ISO 8601 with an offset; default: 24 hours ago")
        parser.add_argument("--until", metavar="INSTANT", help="default: as late as is settled, 15 s ago")
        parser.add_argument("--schedule", action="append", metavar="ID", help="this one; may be given repeatedly")
        form = parser.add_mutually_exclusive_group()
        form.add_argument("--json", action="store_true", help="the whole comparison as one JSON object")
        form.add_argument("--html", type=Path, metavar="FILE", help="write one self-contained page with charts")

    def serve(self, **options: Any) -> None:
        """Compare and print."""
        try:
            made = self._compare(options)
        except api.InvalidInput as error:
            raise CommandError(refusal(error), returncode=ExitCode.USAGE) from error
        except api.ScheduleNotFound as error:
            raise CommandError(str(error), returncode=NOT_FOUND) from error
        if options["json"]:
            self.stdout.write(json.dumps(as_json(made)))
        elif options["html"] is not None:
            self._write(options["html"], as_html(made))
        else:
            self.stdout.write(as_text(made))

    def _compare(self, options: dict[str, Any]) -> Comparison:
        since, until = (options[name] and instant(f"--{name}", options[name]) for name in ("since", "until"))
        wanted = options["schedule"]
        return compare(
            since=since or timezone.now() - timedelta(hours=24),
            until=until,
            schedules=None if wanted is None else [api.get_schedule(one) for one in wanted],
        )

    def _write(self, path: Path, text: str) -> None:
        try:
            path.write_text(text, encoding="utf-8")
        except OSError as error:
            raise self.usage("--html", f"a file that can be written ({error.strerror})", str(path)) from error
        self.stdout.write(f"written to {path}")


def as_text(made: Comparison) -> str:
    """Counts, causes, and a line for each schedule."""
    lines = [f"{made.occurrences} occurrences from {made.since.isoformat()} to {made.until.isoformat()}"]
    lines += [f"  {verdict.value}: {made.verdicts[verdict]}" for verdict in Verdict]
    if made.causes:
        lines.append("why they differ: " + ", ".join(f"{cause} {count}" for cause, count in made.causes.most_common()))
    if made.schedules:
        lines += ["", table(_COLUMNS, [_line(one) for one in made.schedules.values()])]
    return "\n".join(lines)


def _line(one: Any) -> dict[str, Any]:
    first = one.first_divergence
    said = first and f"{first.scheduled_for:%Y-%m-%d %H:%M:%S} {first.verdict.value} {first.cause or 'unexplained'}"
    counts = {verdict.value: one.verdicts[verdict] for verdict in Verdict}
    ready = "yes" if one.is_ready else f"{one.clean_streak} of {one.needed}"
    return {"schedule": one.name, "ready": ready, **counts, "first divergence": said}
