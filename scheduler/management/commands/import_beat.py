"""`manage.py import_beat`: mirrors for what Celery Beat fires, each with a certificate."""

from __future__ import annotations

import getpass
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from django.core.management.base import CommandError, CommandParser

from pg_queue.api import ExitCode
from pg_queue.api import text_table as table
from scheduler import clock
from scheduler.actor import acting_as
from scheduler.beat.certificate import DEFAULT_COUNT, Certificate
from scheduler.errors import BeatUnavailable, InvalidInput
from scheduler.grid import cadence_of
from scheduler.herds import Herd, find_herds
from scheduler.imports import Imported, ImportStatus, import_beat
from scheduler.management.beat_command import BeatCommand
from scheduler.management.options import refusal
from scheduler.settings import scheduler_settings

INCOMPLETE = ExitCode.DUTY_FAILED
"""Exit code: something could not be imported; the rest was."""
_COLUMNS = ("name", "kind", "expression", "timezone", "verdict")
_EPILOG = (
    "Exit codes: 0 everything is imported; 1 unexpected error; 2 wrong usage or configuration; 3 database unreachable; "
    "4 not migrated; 6 something could not be imported, the rest was."
)


class Command(BeatCommand):
    """Read Beat's rows and `beat_schedule`; Beat goes on firing them."""

    help = (
        "Give each row of django-celery-beat, and each entry of the Celery app's beat_schedule, a schedule here that "
        "mirrors it, and compare its next occurrences with Celery's own evaluator. Celery Beat goes on firing them. "
        "What has been imported is left as it is."
    )
    app_labels = ("pg_queue", "scheduler")

    def add_arguments(self, parser: CommandParser) -> None:
        """What to do, and how to say it."""
        parser.epilog = _EPILOG
        parser.add_argument("--dry-run", action="store_true", help="say what would be imported, and store nothing")
        parser.add_argument("--json", action="store_true", help="one JSON object per line on stdout")
        parser.add_argument(
            "--organization", default="default", metavar="ID", help="whose they become (default: %(default)s)"
        )
        parser.add_argument(
            "--occurrences", type=int, default=DEFAULT_COUNT, metavar="N",
            help="compare the next N of each, 1 to 1000, and those around two clock changes (default: %(default)s)",
        )  # fmt: skip

    def serve(self, **options: Any) -> None:
        """Import, and report each row; exits with 6 where one was refused."""
        try:
            with acting_as(f"{getpass.getuser()}: manage.py import_beat"):
                found = list(
                    import_beat(
                        organization_id=options["organization"],
                        occurrences=options["occurrences"],
                        is_dry_run=options["dry_run"],
                    )
                )
        except (InvalidInput, BeatUnavailable) as error:
            raise CommandError(refusal(error), returncode=ExitCode.USAGE) from error
        herds = find_herds(_cadences(found), clock.now(scheduler_settings().database))
        counts = Counter(one.status for one in found)
        if options["json"]:
            self._print_json(found, herds, counts, is_dry_run=options["dry_run"])
        else:
            self._print_text(found, herds)
            self.stdout.write(_summary(counts, is_dry_run=options["dry_run"]))
        if refused := counts[ImportStatus.REFUSED]:
            raise CommandError(f"{refused} of {len(found)} could not be imported", returncode=INCOMPLETE)

    def _print_json(
        self, found: Sequence[Imported], herds: Sequence[Herd], counts: Counter[ImportStatus], *, is_dry_run: bool
    ) -> None:
        for one in found:
            self.stdout.write(json.dumps(imported_fields(one)))
        for herd in herds:
            fields = {"first_at": _instant(herd.first_at), "minutes": herd.minutes, "schedules": list(herd.names)}
            self.stdout.write(json.dumps({"event": "herd", **fields}))
        summary = {status.value: counts[status] for status in ImportStatus}
        self.stdout.write(json.dumps({"event": "summary", "dry_run": is_dry_run, **summary}))

    def _print_text(self, found: Sequence[Imported], herds: Sequence[Herd]) -> None:
        shown = [one for one in found if one.status != ImportStatus.UNCHANGED]
        if shown:
            self.stdout.write(table(_COLUMNS, [imported_fields(one) for one in shown]) + "\n")
        for rule in sorted({one.certificate.rule for one in shown if one.certificate and one.certificate.rule}):
            self.stdout.write(f"{rule}: {rule.sentence}")
        for one in shown:
            for remark in one.remarks:
                self.stdout.write(f"{one.beat_name}: {remark.text}")
        for herd in herds if shown else ():
            names = ", ".join(herd.names[:3])
            self.stdout.write(
                f"{len(herd.names)} schedules are due in one minute, {herd.first_at:%H:%M} UTC ({names}, …), in "
                f"{herd.minutes} of the next 24 hours' minutes: jitter_seconds spreads them once PG fires them"
            )


def imported_fields(one: Imported) -> dict[str, Any]:
    """What became of one row, as plain values."""
    row = one.row
    return {
        "event": "schedule",
        "status": one.status.value,
        "name": one.beat_name,
        "id": row and str(row.pipeline_id),
        "source": one.source.value,
        "kind": row and row.kind,
        "expression": row and row.cron_string,
        "timezone": row and row.timezone,
        "verdict": _verdict(one),
        "certificate": one.certificate and one.certificate.as_json(),
        "reason": one.reason or None,
        "remarks": [{"about": remark.about, "text": remark.text} for remark in one.remarks],
    }


def _verdict(one: Imported) -> str:
    if one.status == ImportStatus.REFUSED:
        return f"not imported: {one.reason}"
    return "not compared" if one.certificate is None else _judgement(one.certificate)


def _judgement(certificate: Certificate) -> str:
    if certificate.is_equal:
        return "equal"
    if certificate.rule is not None:
        return f"differs by {certificate.rule.value}"
    sides = zip(("Beat", "here"), certificate.first_difference or (), strict=False)
    return "differs, unexplained: " + ", ".join(f"{side} {at and _instant(at)}" for side, at in sides)


def _summary(counts: Counter[ImportStatus], *, is_dry_run: bool) -> str:
    imported, unchanged = counts[ImportStatus.IMPORTED], counts[ImportStatus.UNCHANGED]
    if not imported:
        return f"Nothing to import: {unchanged} have a mirror already." if unchanged else "Nothing to import."
    words = "would be imported" if is_dry_run else "imported; Celery Beat goes on firing them"
    return f"{imported} {words}." + (f" {unchanged} have a mirror already." if unchanged else "")


def _cadences(found: Iterable[Imported]) -> list[tuple[str, Any]]:
    return [(one.beat_name, cadence_of(one.row)) for one in found if one.row is not None and one.row.enabled]


def _instant(at: Any) -> str:
    return str(at.isoformat()).replace("+00:00", "Z")
