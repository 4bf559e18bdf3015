"""A schedule as REST shows and takes it."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from backend.api.organizations import meant_by
from backend.api.refusals import message
from backend.api.serializers.cutover import UnderWaySerializer
from backend.api.strictness import InstantField, StrictSerializer
from backend.pipelines import services
from scheduler import api
from scheduler.api import PgPeriodicSchedule
from scheduler.domain import CatchUp, CronDialect, Firer, Overlap, ScheduleKind, ScheduleState
from scheduler.representation import under_way_fields

ARGUMENT = {"pipeline_name": "name", "cron_string": "expression"}
"""A column of the schedule and the choke points' name for it, where they differ."""
EXPRESSION_LENGTH = PgPeriodicSchedule._meta.get_field("cron_string").max_length


class NextRunField(serializers.DateTimeField):
    """The next occurrence as people are to see it."""

    def get_attribute(self, instance: PgPeriodicSchedule) -> Any:
        """Not the column, which may be stale while Celery Beat fires the schedule."""
        return api.next_run_at(instance)


class AsStored:
    """Mixin of a field that shows what is stored, even if it could not be stored here: one bad row hides no other."""

    def to_representation(self, value: Any) -> Any:
        """The value itself: JSON already."""
        return value


class ArgsField(AsStored, serializers.ListField):
    """Positional arguments."""


class KwargsField(AsStored, serializers.DictField):
    """Arguments by name."""


class SchedulesSerializer(serializers.ListSerializer):
    """Schedules, their hand-overs read together."""

    def to_representation(self, data: Any) -> Any:
        """As DRF's."""
        rows = list(data)
        self.child.under_way = api.under_way(rows)
        return super().to_representation(rows)


@extend_schema_field(UnderWaySerializer(allow_null=True))
class UnderWayField(serializers.Field):
    """The hand-over that it is in the middle of, or null."""

    def get_attribute(self, instance: PgPeriodicSchedule) -> Any:
        """Found for the whole list, or for the one schedule; DRF represents None as null."""
        found = self.parent.under_way
        return (api.under_way([instance]) if found is None else found).get(instance.pk)

    def to_representation(self, value: api.UnderWay) -> Any:
        """Its fields."""
        return under_way_fields(value)


class ScheduleSerializer(StrictSerializer):
    """A schedule. What the engine owns is read-only; what is left out of a change stays as it is."""

    id = serializers.UUIDField(source="pipeline_id", read_only=True)
    name = serializers.CharField(source="pipeline_name", max_length=255)
    organization = serializers.CharField(
        source="organization_id", max_length=64, required=False, help_text="Chosen on creation, then fixed."
    )
    workflow_id = serializers.CharField(max_length=255, required=False, allow_null=True)
    task = serializers.CharField(max_length=255, help_text="Registered name; see /api/v1/tasks/.")
    args = ArgsField(required=False)
    kwargs = KwargsField(required=False)
    kind = serializers.ChoiceField(choices=[k.value for k in ScheduleKind], required=False)
    expression = serializers.CharField(
        source="cron_string",
        max_length=EXPRESSION_LENGTH,
        help_text="crontab: five fields or a macro; interval: an ISO 8601 duration such as PT5S; clocked: an instant "
        "such as 2026-12-24T18:00:00Z; solar: an event and a place such as 'sunset 52.52 13.405'.",
    )
    timezone = serializers.CharField(max_length=64, required=False, help_text="IANA name such as Europe/Berlin.")
    dialect = serializers.ChoiceField(choices=[d.value for d in CronDialect], required=False)
    state = serializers.ChoiceField(
        choices=[s.value for s in ScheduleState], read_only=True, help_text="What holds for it right now."
    )
    enabled = serializers.BooleanField(required=False)
    firer = serializers.ChoiceField(
        choices=[f.value for f in Firer], required=False, help_text="Chosen on creation, then fixed."
    )
    handover = UnderWayField(read_only=True, help_text="The hand-over that it is in the middle of; null: none.")
    queue = serializers.CharField(max_length=128, required=False)
    priority = serializers.IntegerField(min_value=1, max_value=10, required=False, help_text="10 goes first.")
    max_attempts = serializers.IntegerField(
        min_value=1, max_value=32767, required=False, allow_null=True, help_text="Null: the task's own policy."
    )
    starts_at = InstantField(required=False, allow_null=True)
    ends_at = InstantField(required=False, allow_null=True)
    grace_seconds = serializers.IntegerField(
        required=False,
        allow_null=True,
        help_text="How late an occurrence may still fire; null: the project's setting.",
    )
    catch_up = serializers.ChoiceField(
        choices=[c.value for c in CatchUp],
        required=False,
        help_text="Missed occurrences within grace_seconds: none, the latest, or all of them are fired.",
    )
    overlap = serializers.ChoiceField(
        choices=[o.value for o in Overlap],
        required=False,
        help_text="While the run before has not ended: allow another, skip the occurrence, or queue it until then.",
    )
    jitter_seconds = serializers.IntegerField(
        required=False, help_text="Its runs begin up to so much later than their occurrences; 0: none."
    )
    run_limit = serializers.IntegerField(
        required=False, allow_null=True, help_text="It ends when it was fired so often; 1: a one-off; null: never."
    )
    run_count = serializers.IntegerField(read_only=True)
    pause_after_failures = serializers.IntegerField(
        required=False, allow_null=True, help_text="It is paused when so many of its runs failed in a row; null: never."
    )
    failures_in_a_row = serializers.IntegerField(read_only=True, help_text="Counted where pause_after_failures is set.")
    hold = serializers.CharField(
        read_only=True,
        allow_null=True,
        help_text="overlap: it waits for the end of the run before; handover: for Celery Beat, which may have sent it.",
    )
    pause_note = serializers.CharField(max_length=500, required=False, allow_blank=True)
    paused_until = InstantField(
        required=False, allow_null=True, help_text="When a pause ends by itself; null: when it is resumed."
    )
    paused_at = serializers.DateTimeField(read_only=True, allow_null=True)
    last_run_at = serializers.DateTimeField(read_only=True, allow_null=True)
    next_run_at = NextRunField(read_only=True, allow_null=True)
    quarantined_at = serializers.DateTimeField(read_only=True, allow_null=True)
    quarantine_error = serializers.CharField(read_only=True)
    created_at = serializers.DateTimeField(read_only=True)
    updated_at = serializers.DateTimeField(read_only=True)

    under_way: dict[UUID, api.UnderWay] | None = None
    """By schedule, where it was read for a whole list."""

    class Meta:
        list_serializer_class = SchedulesSerializer

    def validate_organization(self, slug: str) -> str:
        """The organization of an existing schedule is fixed."""
        if self.instance is not None and slug != self.instance.organization_id:
            raise serializers.ValidationError(message(f"{self.instance.organization_id!r}, which is fixed", slug))
        return slug

    def create(self, validated_data: dict[str, Any]) -> PgPeriodicSchedule:
        """Create it through the choke point. Raises `InvalidInput`."""
        values = {ARGUMENT.get(column, column): value for column, value in validated_data.items()}
        values["organization_id"] = meant_by(self.context["request"])
        return api.create_schedule(**values)

    def update(self, instance: PgPeriodicSchedule, validated_data: dict[str, Any]) -> PgPeriodicSchedule:
        """Change what differs through the choke point. Raises `InvalidInput`, also where it would lose its pipeline."""
        is_mirror = instance.firer == Firer.BEAT and self.partial  # may be stale: Beat's row may say something else
        changes = {
            ARGUMENT.get(column, column): value
            for column, value in validated_data.items()
            if is_mirror or value != getattr(instance, column)
        }
        services.check_schedule_change(instance.pk, changes)
        return api.update_schedule(instance.pk, **changes) if changes else instance


class PauseSerializer(StrictSerializer):
    """Why a schedule is paused."""

    reason = serializers.CharField(max_length=500, required=False, allow_blank=True, default="")
    until = InstantField(
        required=False, allow_null=True, default=None, help_text="It resumes by itself then; null: when it is resumed."
    )


class UpcomingSerializer(serializers.Serializer):
    """The next occurrences, earliest first; empty while the schedule is paused, quarantined or over."""

    timezone = serializers.CharField()
    results = serializers.ListField(child=serializers.DateTimeField())


class SideBySideSerializer(serializers.Serializer):
    """An occurrence under both firers' rules, or under one's."""

    pg = serializers.DateTimeField(allow_null=True, help_text="Null: only Celery Beat sends then.")
    beat = serializers.DateTimeField(allow_null=True, help_text="Null: Celery Beat does not send, or is not shown.")
    differs = serializers.BooleanField()
    rule = serializers.CharField(allow_null=True, help_text="What a difference follows from; null: nothing known.")
    reason = serializers.CharField(help_text="The rule in a sentence or two.")


class ClockChangeSerializer(serializers.Serializer):
    """The occurrences around a change of the zone's clock, at most 24."""

    at = serializers.DateTimeField()
    offset_before = serializers.CharField(help_text="From UTC, such as +01:00.")
    offset_after = serializers.CharField()
    results = SideBySideSerializer(many=True)
    left_out = serializers.IntegerField(help_text="How many more there are around it.")


class HerdSerializer(serializers.Serializer):
    """A crowded minute that it joins within its next ten occurrences."""

    at = serializers.DateTimeField()
    others = serializers.IntegerField(help_text="Schedules that begin in that minute, of those that you may see.")
    jitter_seconds = serializers.IntegerField(allow_null=True, help_text="A jitter that would part it from them.")
    warning = serializers.CharField()


class PreviewSerializer(serializers.Serializer):
    """What lies ahead, here and under Celery Beat's rules."""

    timezone = serializers.CharField()
    note = serializers.CharField(help_text="Why Celery Beat's side is not shown, or means something else.")
    results = SideBySideSerializer(many=True, help_text="The next occurrences.")
    clock_changes = ClockChangeSerializer(many=True, help_text="The next two of a crontab's zone within three years.")
    herd = HerdSerializer(allow_null=True, help_text="Null: no minute is crowded.")


class ContributionSerializer(serializers.Serializer):
    """Schedules of one crontab that are fired in a minute."""

    expression = serializers.CharField()
    timezone = serializers.CharField()
    schedules = serializers.IntegerField()


class MinuteSerializer(serializers.Serializer):
    """A busy minute."""

    at = serializers.DateTimeField()
    fires = serializers.IntegerField()
    starts = serializers.IntegerField(help_text="Runs that begin in it: a jitter moves them.")
    largest = ContributionSerializer(many=True, help_text="At most three crontabs.")


class ForecastSerializer(serializers.Serializer):
    """How many schedules are fired, and begin, in each minute ahead."""

    since = serializers.DateTimeField()
    first_minute = serializers.DateTimeField(help_text="The minute of the first number.")
    until = serializers.DateTimeField()
    schedules = serializers.IntegerField(help_text="Enabled ones that are due by then, and counted.")
    left_out = serializers.IntegerField(help_text="Too many different ones, or rows that mean nothing.")
    cadences = serializers.IntegerField()
    seconds = serializers.FloatField()
    busiest = MinuteSerializer(many=True)
    fires = serializers.ListField(child=serializers.IntegerField(), help_text="By minute.")
    starts = serializers.ListField(child=serializers.IntegerField(), help_text="By minute.")
