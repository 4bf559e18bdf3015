"""The forms: a schedule, and the reason of a pause."""

from __future__ import annotations

import json
from typing import Any
from zoneinfo import available_timezones

from django import forms
from django.contrib.admin.widgets import AdminTextareaWidget, AdminTextInputWidget
from django.core.exceptions import ValidationError
from django.forms.fields import InvalidJSONInput

from pg_queue import api as queue
from scheduler.admin.refusal import RefusableForm
from scheduler.domain import CronDialect, Firer, ScheduleKind
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
            "firer",
            "workflow_id",
        ]
        labels = {
            "pipeline_name": "Name",
            "organization_id": "Organization",
            "args": "Arguments",
            "kwargs": "Keyword arguments",
            "cron_string": "Expression",
            "starts_at": "Starts at (UTC)",
            "ends_at": "Ends at (UTC)",
            "max_attempts": "Attempts per run",
            "grace_seconds": "Catch-up window (seconds)",
            "firer": "Fired by",
            "workflow_id": "Workflow",
        }
        help_texts = {
            "task": "A registered task: start typing to see them.",
            "args": 'A JSON list, such as ["a", 1].',
            "kwargs": 'A JSON object, such as {"rows": 10}.',
            "kind": "Crontab: times of the wall clock. Interval: ISO 8601 duration.",
            "cron_string": "Five fields such as 30 6 * * mon-fri, a macro such as @daily; or a duration such as PT15M.",
            "timezone": "IANA name such as Europe/Berlin: whose wall clock a crontab follows.",
            "dialect": "When both day fields are restricted, Unix takes either, Celery wants both.",
            "starts_at": "Occurrences before this instant do not count.",
            "ends_at": "From this instant on nothing is fired.",
            "priority": "1 (last) to 10 (first), within its queue.",
            "max_attempts": "Empty: the task's own policy.",
            "grace_seconds": "How late an occurrence may still be fired. Empty: the project's setting.",
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
            "kind": [(ScheduleKind.CRONTAB, "Crontab"), (ScheduleKind.INTERVAL, "Interval")],
            "dialect": [(CronDialect.UNIX, "Unix cron"), (CronDialect.CELERY, "Celery crontab")],
            "firer": [(Firer.PG, "Downbeat"), (Firer.BEAT, "Celery Beat")],
        }
        for name, options in choices.items():
            if name in self.fields:
                self.fields[name].choices = [(value.value, label) for value, label in options]  # type: ignore[attr-defined]
        for name in ("args", "kwargs"):
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


def _filled(name: str, value: Any) -> Any:
    """An empty JSON field means no arguments; an empty text without a meaning of its own means none."""
    if value is None and name in {"args", "kwargs"}:
        return [] if name == "args" else {}
    return None if value == "" and name == "workflow_id" else value


class PauseForm(forms.Form):
    """Why a schedule is paused."""

    reason = forms.CharField(
        max_length=500,
        required=False,
        widget=forms.TextInput(attrs={"class": "vTextField db-wide", "autofocus": True}),
        help_text="Shown beside the schedule until it is resumed.",
    )
