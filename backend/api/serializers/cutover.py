"""What the cutover is asked for by REST, and what it answers."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from rest_framework import serializers

from backend.api.refusals import message
from backend.api.strictness import StrictSerializer
from scheduler.api import HandoverStatus
from scheduler.domain import BeatMode, Firer, HandoverMethod, HandoverState


class ChangeSerializer(StrictSerializer):
    """Why schedules change their firer, and in which organization."""

    organization = serializers.CharField(max_length=64, required=False, help_text="By default all that you may see.")
    reason = serializers.CharField(max_length=500, required=False, allow_blank=True, default="")


class ChoiceSerializer(ChangeSerializer):
    """Which schedules; each that is given narrows the choice down."""

    schedules = serializers.ListField(child=serializers.CharField(), required=False, help_text="Their ids.")
    percent = serializers.FloatField(required=False, help_text="Those whose bucket is below, 0 to 100.")
    all = serializers.BooleanField(required=False, default=False, help_text="Wanted where nothing else is given.")

    def validate_schedules(self, ids: list[str]) -> list[UUID]:
        """Each is a UUID."""
        try:
            return [UUID(one) for one in ids]
        except ValueError:
            raise serializers.ValidationError(message("a list of UUIDs", ids)) from None

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """Nobody hands everything over by leaving something out."""
        if not attrs["all"] and {"schedules", "organization", "percent"}.isdisjoint(attrs):
            text = "expected true, or one of schedules, organization and percent, got nothing"
            raise serializers.ValidationError({"all": [text]})
        return attrs


class ForceSerializer(StrictSerializer):
    """What asks for `change` of hand-overs, too."""

    force = serializers.BooleanField(
        required=False, default=False, help_text="Without the evidence; it is recorded that it was so."
    )
    beat_stopped = serializers.BooleanField(
        required=False, default=False, help_text="No Celery Beat runs, with our app or without."
    )


class PromotionSerializer(ForceSerializer, ChoiceSerializer):
    """What is to be PG's."""


class RampSerializer(ForceSerializer, ChangeSerializer):
    """How much is to be PG's."""

    percent = serializers.FloatField(help_text="0 to 100.")


class EvidenceSerializer(serializers.Serializer):
    """What the comparison says."""

    clean = serializers.IntegerField(help_text="Occurrences in a row that compared clean.")
    needed = serializers.IntegerField()
    sentence = serializers.CharField()


class HandoverSerializer(serializers.Serializer):
    """A change of a schedule's firer."""

    id = serializers.IntegerField()
    schedule = serializers.UUIDField(source="schedule_id")
    organization = serializers.CharField(source="organization_id")
    name = serializers.CharField(source="beat_name", help_text="Of Celery Beat's periodic task.")
    to = serializers.ChoiceField(source="to_firer", choices=[f.value for f in Firer])
    method = serializers.ChoiceField(choices=[m.value for m in HandoverMethod])
    state = serializers.ChoiceField(choices=[s.value for s in HandoverState])
    is_forced = serializers.BooleanField(help_text="Whether it was done without the evidence that it asks for.")
    actor = serializers.CharField(allow_blank=True)
    reason = serializers.CharField(allow_blank=True)
    evidence = EvidenceSerializer(allow_null=True)
    requested_at = serializers.DateTimeField()
    beat_from = serializers.DateTimeField(allow_null=True, help_text="To Beat: what occurs after it is Beat's.")
    ended_at = serializers.DateTimeField(allow_null=True)
    outcome = serializers.JSONField(help_text="What Beat sent meanwhile, what nobody knows, where the new firer began.")


class WaitingHandoverSerializer(HandoverSerializer):
    """One that is under way."""

    hint = serializers.CharField(allow_null=True, help_text="What to do about it, where it waits for long.")


class AnswerSerializer(serializers.Serializer):
    """What becomes of one schedule."""

    schedule = serializers.UUIDField()
    name = serializers.CharField()
    to = serializers.ChoiceField(choices=[f.value for f in Firer], help_text="The firer that was asked for.")
    status = serializers.ChoiceField(choices=[s.value for s in HandoverStatus])
    reason = serializers.CharField(allow_blank=True, help_text="Why it is refused, or unchanged.")
    evidence = EvidenceSerializer(allow_null=True)
    handover = HandoverSerializer(allow_null=True)


class AnswersSerializer(serializers.Serializer):
    """What becomes of each."""

    schedules = AnswerSerializer(many=True)


class LiveBeatSerializer(serializers.Serializer):
    """A Celery Beat that tells of itself."""

    host = serializers.CharField()
    process_id = serializers.IntegerField()
    mode = serializers.ChoiceField(choices=[m.value for m in BeatMode])


class CutoverStatusSerializer(serializers.Serializer):
    """Where the cutover stands."""

    fired_by_beat = serializers.IntegerField()
    fired_by_pg = serializers.IntegerField(help_text="Those on the way from Beat or back included.")
    on_the_way_to_pg = serializers.IntegerField()
    on_the_way_to_beat = serializers.IntegerField()
    live_beats = LiveBeatSerializer(many=True)
    method = serializers.ChoiceField(
        choices=[m.value for m in HandoverMethod], allow_null=True, help_text="Null: a hand-over would be refused."
    )
    obstacle = serializers.CharField(allow_blank=True, help_text="Why it would be refused, and what to do.")
    waiting = WaitingHandoverSerializer(many=True)
    latest = HandoverSerializer(many=True, help_text="The last ten that ended.")


class UnderWaySerializer(serializers.Serializer):
    """A hand-over that a schedule is in the middle of."""

    to = serializers.ChoiceField(choices=[f.value for f in Firer])
    state = serializers.ChoiceField(choices=[HandoverState.WAITING.value])
    since = serializers.DateTimeField()
    beat_from = serializers.DateTimeField(allow_null=True, help_text="To Beat: what occurs after it is Beat's.")
    hint = serializers.CharField(allow_null=True, help_text="What to do about it, where it waits for long.")
