"""The forms: a schedule, the reason of a pause, and what a hand-over asks for."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import datetime
from typing import Any
from zoneinfo import available_timezones

from django import forms
from django.contrib.admin.widgets import AdminSplitDateTime, AdminTextareaWidget, AdminTextInputWidget
from django.core.exceptions import ValidationError
from django.forms.fields import InvalidJSONInput
from django.utils.dateparse import parse_datetime

from pg_queue import api as queue
from scheduler.admin.refusal import RefusableForm
from scheduler.domain import CatchUp, CronDialect, Firer, Overlap, ScheduleKind
from scheduler.models import PgPeriodicSchedule

ARGUMENTS = {"pipeline_name": "name", "cron_string": "expression"}


class SuggestingInput(AdminTextInputWidget):
    """A text input with suggestions, without a script. `suggest` returns them each time the form is shown."""

    template_name = "scheduler/widgets/suggesting_input.html"

    def __init__(self, suggest: Any, attrs: dict[str, Any] | None = None) -> None:
        super().__init__(attrs)
        self.suggest = suggest

    def get_context(self, name: str, value: Any, attrs: dict[str, Any] | None) -> dict[str, Any]:
        """Adds the suggestions and the id of their list."""
        context = super().get_context(name, value, attrs)
        identity = f"{context['widget']['attrs'].get('id', name)}_suggestions"
        context["widget"]["attrs"]["list"] = identity
        return {**context, "suggestions_id": identity, "suggestions": self.suggest()}


class JsonField(forms.JSONField):
    """Django's, which crashes on JSON of more levels, digits or halves of characters than Python takes."""

    def to_python(self, value: Any) -> Any:
        """As Django's. Raises `ValidationError`."""
        try:
            return super().to_python(value)
        except (RecursionError, ValueError):
            raise ValidationError(self.error_messages["invalid"], code="invalid", params={"value": value}) from None

    def bound_data(self, data: Any, initial: Any) -> Any:
        """As Django's; what could not be shown anew is shown as it was typed."""
        try:
            parsed = super().bound_data(data, initial)
            json.dumps(parsed, ensure_ascii=False).encode()
        except (RecursionError, ValueError):
            return InvalidJSONInput(data)
        return parsed


def task_names() -> list[str]:
    """Names of the tasks that may be scheduled."""
    return [task.name for task in queue.tasks()]


def zone_names() -> list[str]:
    """Names of the time zones of this machine."""
    return sorted(available_timezones())


class ScheduleForm(RefusableForm):
    """A schedule. What is acceptable is the choke points' to say; see `RefusalMixin`."""

    refusal_fields = {argument: column for column, argument in ARGUMENTS.items()}

    class Meta:
        model = PgPeriodicSchedule
        fields = [
            "pipeline_name",
            "organization_id",
            "task",
            "args",
            "kwargs",
            "kind",
            "cron_string",
            "timezone",
            "dialect",
            "starts_at",
            "ends_at",
            "enabled",
            "queue",
            "priority",
            "max_attempts",
            "grace_seconds",
            "catch_up",
            "overlap",
            "jitter_seconds",
            "run_limit",
            "pause_after_failures",
            "firer",
            "workflow_id",
        ]
        labels = {
            "pipeline_name": "Name",
            "organization_id": "Organization",
            "args": "Arguments",
            "kwargs": "Keyword arguments",
            "cron_string": "Expression",
            "timezone": "Time zone",
            "starts_at": "Starts at (UTC)",
            "ends_at": "Ends at (UTC)",
            "max_attempts": "Attempts per run",
            "grace_seconds": "Catch-up window (seconds)",
            "catch_up": "Missed occurrences",
            "overlap": "While the run before goes on",
            "jitter_seconds": "Jitter (seconds)",
            "run_limit": "Run limit",
            "pause_after_failures": "Pause after failures",
            "firer": "Fired by",
            "workflow_id": "Workflow",
        }
        help_texts = {
            "task": "A registered task: start typing to see them.",
            "args": 'A JSON list, such as ["a", 1].',
            "kwargs": 'A JSON object, such as {"rows": 10}.',
            "kind": "Crontab: times of the wall clock. Interval: a duration. Clocked: one instant. Solar: the sun.",
            "cron_string": "30 6 * * mon-fri or @daily; PT15M; 2026-12-24T18:00:00Z; sunset 52.52 13.405.",
            "timezone": "IANA name such as Europe/Berlin: whose wall clock a crontab follows.",
            "dialect": "When both day fields are restricted, Unix takes either, Celery wants both.",
            "starts_at": "Occurrences before this instant do not count.",
            "ends_at": "From this instant on nothing is fired.",
            "priority": "1 (last) to 10 (first), within its queue.",
            "max_attempts": "Empty: the task's own policy.",
            "grace_seconds": "How late an occurrence may still be fired. Empty: the project's setting.",
            "catch_up": "What becomes of those within the window.",
            "overlap": "What becomes of an occurrence then.",
            "jitter_seconds": "Its runs begin up to so much later than their occurrences, to spread load.",
            "run_limit": "It ends when it was fired so often; 1: a one-off. Empty: never.",
            "pause_after_failures": "It is paused when so many of its runs failed in a row. Empty: never.",
            "firer": "Chosen when the schedule is created.",
            "workflow_id": "A mark of your own.",
        }
        field_classes = {"args": JsonField, "kwargs": JsonField}
        widgets = {
            "pipeline_name": AdminTextInputWidget(attrs={"class": "vTextField db-wide", "autofocus": True}),
            "task": SuggestingInput(task_names, {"class": "vTextField", "autocomplete": "off"}),
            "timezone": SuggestingInput(zone_names, {"class": "vTextField", "autocomplete": "off"}),
            "cron_string": AdminTextInputWidget(attrs={"class": "vTextField", "spellcheck": "false"}),
            "args": AdminTextareaWidget(attrs={"rows": 2, "class": "db-code"}),
            "kwargs": AdminTextareaWidget(attrs={"rows": 2, "class": "db-code"}),
        }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        choices = {
            "kind": [(kind, kind.value.capitalize()) for kind in ScheduleKind],
            "catch_up": [(CatchUp.LATEST, "Latest"), (CatchUp.NONE, "None"), (CatchUp.ALL, "All")],
            "overlap": [(Overlap.ALLOW, "Allow"), (Overlap.SKIP, "Skip"), (Overlap.QUEUE, "Queue")],
            "dialect": [(CronDialect.UNIX, "Unix cron"), (CronDialect.CELERY, "Celery crontab")],
            "firer": [(Firer.PG, "Downbeat"), (Firer.BEAT, "Celery Beat")],
        }
        for name, options in choices.items():
            if name in self.fields:
                self.fields[name].choices = [(value.value, label) for value, label in options]  # type: ignore[attr-defined]
        for name in _EMPTY:
            if name in self.fields:
                self.fields[name].required = False

    def _get_validation_exclusions(self) -> set[str]:
        """Leaves the model's own validation out: the choke points' refusals name field, expectation and value."""
        return {field.name for field in self._meta.model._meta.get_fields()}

    def arguments(self) -> dict[str, Any]:
        """What the choke points are to write: everything of a new schedule, what was changed of an existing one."""
        is_new = self.instance._state.adding
        chosen = self.cleaned_data if is_new else {name: self.cleaned_data[name] for name in self.changed_data}
        return {ARGUMENTS.get(name, name): _filled(name, value) for name, value in chosen.items()}


_EMPTY: dict[str, Any] = {
    "args": [],
    "kwargs": {},
    "workflow_id": None,
    "catch_up": CatchUp.LATEST.value,
    "overlap": Overlap.ALLOW.value,
    "jitter_seconds": 0,
}
"""What an empty field means, where it means something."""


def _filled(name: str, value: Any) -> Any:
    return _EMPTY.get(name, value) if value in (None, "") else value


def readable(asked: dict[str, Any]) -> dict[str, Any]:
    """What a link to the add page asks to begin with, its instants read; one that means nothing is left out."""
    return {**asked, **{name: _read(asked[name]) for name in ("starts_at", "ends_at") if name in asked}}


def _read(text: str) -> datetime | None:
    try:
        return parse_datetime(text)
    except ValueError:
        return None


class PauseForm(forms.Form):
    """Why a schedule is paused."""

    reason = forms.CharField(
        max_length=500,
        required=False,
        widget=forms.TextInput(attrs={"class": "vTextField db-wide", "autofocus": True}),
        help_text="Shown beside its state until it is resumed.",
    )
    until = forms.SplitDateTimeField(
        required=False,
        label="Until (UTC)",
        widget=AdminSplitDateTime(),
        help_text="It resumes by itself then. Empty: when somebody resumes it.",
    )


class ReasonForm(forms.Form):
    """Why schedules go back to Celery Beat."""

    reason = forms.CharField(
        max_length=500,
        required=False,
        widget=forms.TextInput(attrs={"class": "vTextField db-wide"}),
        help_text="Kept with the hand-over.",
    )

    @property
    def order(self) -> dict[str, Any]:
        """What `scheduler.api` is to be told, besides which schedules."""
        return {"reason": self.cleaned_data["reason"]}


class HandOverForm(ReasonForm):
    """Why schedules become PG's, and what is passed over; the latter for those only who may do so."""

    force = forms.BooleanField(
        required=False,
        label="Without the evidence",
        help_text="Hands over, too, what has not compared clean for long enough, or whose task is not registered here. "
        "It is recorded that it was so, and by whom.",
    )
    beat_stopped = forms.BooleanField(
        required=False,
        label="Celery Beat is stopped for good (--beat-stopped)",
        help_text="Only where none runs anywhere, with our app or without: one that does goes on sending for seconds "
        "what PG fires, too.",
    )

    def __init__(self, *args: Any, may_pass_over: bool, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not may_pass_over:
            del self.fields["force"], self.fields["beat_stopped"]

    @property
    def order(self) -> dict[str, Any]:
        """As the form's for the way back, and what is passed over."""
        passed = self.cleaned_data
        return {
            **super().order,
            "is_forced": passed.get("force", False),
            "is_beat_stopped": passed.get("beat_stopped", False),
        }


class RampForm(HandOverForm):
    """How much is to be PG's, and of which organization."""

    percent = forms.FloatField(
        min_value=0,
        max_value=100,
        label="Per cent",
        help_text="PG fires so many per cent of the schedules: more are handed over, or some of them go back.",
    )
    organization = forms.ChoiceField(required=False)
    field_order = ("percent", "organization", "reason")

    def __init__(self, *args: Any, organizations: Iterable[str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        choices = [("", "All that you may see"), *((slug, slug) for slug in organizations)]
        self.fields["organization"].choices = choices  # type: ignore[attr-defined]
