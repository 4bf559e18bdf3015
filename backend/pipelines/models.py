"""Pipelines: ordered steps that run on a schedule, the organizations they belong to, and what became of each run.

A pipeline's schedule is the scheduler's row of the same id. Saving and deleting a pipeline writes it through the choke
points of `scheduler.api`, in the transaction that writes the pipeline; a trigger (see the migrations) carries a change
that was made on the schedule's side back into the pipeline.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection
from typing import Any, NoReturn

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.validators import RegexValidator
from django.db import IntegrityError, models, transaction
from django.db.models import Count, OuterRef, Subquery
from django.db.models.functions import Coalesce, Now

from backend.pipelines import services
from backend.pipelines.domain import ExecutionState, StepState
from scheduler.domain import CronDialect
from scheduler.errors import InvalidInput

UNIQUE_NAME = "pipelines_pipeline_unique_name"
DEFAULT_ORGANIZATION = "default"


class Organization(models.Model):
    """Who pipelines, schedules, runs and messages belong to. One named `default` always exists."""

    slug = models.CharField(
        max_length=64,
        primary_key=True,
        validators=[RegexValidator(r"^[a-z0-9][a-z0-9_-]*$", "expected lower-case letters, digits, - and _")],
    )
    name = models.CharField(max_length=200)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        ordering = ["slug"]

    def __str__(self) -> str:
        return self.name


class Membership(models.Model):
    """A user's right to see and change what belongs to an organization, as far as their permissions go."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="memberships")
    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, related_name="memberships")

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["user", "organization"], name="pipelines_membership_once"),
        ]

    def __str__(self) -> str:
        return f"{self.user} in {self.organization_id}"


class PipelineQuerySet(models.QuerySet["Pipeline"]):
    """Refuses the bulk writes that would leave a schedule behind its pipeline; `delete()` takes schedules along."""

    def with_summary(self) -> PipelineQuerySet:
        """With `step_count`, and of the last execution `last_state` and `last_started_at` (None: never run)."""
        last = PipelineExecution.objects.filter(pipeline=OuterRef("pk")).order_by("-started_at", "id")
        steps = PipelineStep.objects.filter(pipeline=OuterRef("pk")).order_by().values("pipeline")
        return self.annotate(
            step_count=Coalesce(Subquery(steps.annotate(count=Count("pk")).values("count")), 0),
            last_state=Subquery(last.values("state")[:1]),
            last_started_at=Subquery(last.values("started_at")[:1]),
        )

    def update(self, **values: Any) -> NoReturn:
        """Refused: save each pipeline, so that its schedule follows."""
        raise _bulk("update")

    def bulk_create(self, *args: Any, **options: Any) -> NoReturn:
        """Refused: save each pipeline, so that it gets its schedule."""
        raise _bulk("bulk_create")

    def bulk_update(self, *args: Any, **options: Any) -> NoReturn:
        """Refused: save each pipeline, so that its schedule follows."""
        raise _bulk("bulk_update")


def _bulk(method: str) -> TypeError:
    return TypeError(f"Pipeline.objects.{method}: expected save() on each pipeline, which writes its schedule too")


class Pipeline(models.Model):
    """Ordered steps that run whenever its crontab occurs. Its id is its schedule's id."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    organization = models.ForeignKey(
        Organization, on_delete=models.PROTECT, related_name="pipelines", default=DEFAULT_ORGANIZATION
    )
    name = models.CharField(max_length=255)
    expression = models.CharField(
        "cron expression", max_length=1000, help_text="Five fields such as 30 6 * * mon-fri, or a macro such as @daily."
    )
    timezone = models.CharField(max_length=64, default="UTC", help_text="IANA name such as Europe/Berlin.")
    dialect = models.CharField(
        max_length=8,
        choices=[(CronDialect.UNIX.value, "Unix cron"), (CronDialect.CELERY.value, "Celery crontab")],
        default=CronDialect.UNIX.value,
        help_text="When both day fields are restricted, Unix takes either, Celery wants both.",
    )
    active = models.BooleanField(default=True, help_text="An inactive pipeline keeps its schedule, paused.")
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    objects = PipelineQuerySet.as_manager()

    class Meta:
        indexes = [models.Index(fields=["-created_at", "id"], name="pipelines_pipeline_recent")]
        constraints = [
            models.UniqueConstraint(fields=["organization", "name"], name=UNIQUE_NAME),
        ]

    def __str__(self) -> str:
        return self.name

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Write the pipeline and its schedule, both or neither, in one transaction.

        Raises:
            InvalidInput: field `name` when another pipeline of the organization has it, or what the choke points refuse
                (`expression`, `timezone`, `dialect`).
        """
        services.normalise(self)
        if self.pk is None:  # the admin empties the key of a new row that has inline rows
            self.pk = uuid.uuid4()
        try:
            with transaction.atomic():
                before = services.lock(self.pk)
                if not before.has_schedule:
                    services.delete_schedule(self.pk)  # what is left of one whose row in Beat is gone
                super().save(*args, **kwargs)
                services.write_schedule(self, before)
        except IntegrityError as error:
            raise services.refusal(error, self.name) or error from error

    def validate_constraints(self, exclude: Collection[str] | None = None) -> None:
        """As Django's, with a name that is taken reported at the field `name`."""
        try:
            super().validate_constraints(exclude=exclude)
        except ValidationError as error:
            others = Pipeline.objects.filter(organization_id=self.organization_id, name=self.name).exclude(pk=self.pk)
            if not others.exists():
                raise
            raise ValidationError({"name": str(services.name_taken(self.name))}) from error


class PipelineStep(models.Model):
    """One step: a registered task and its arguments."""

    pipeline = models.ForeignKey(Pipeline, on_delete=models.CASCADE, related_name="steps")
    position = models.PositiveSmallIntegerField(help_text="Steps run in ascending order.")
    task = models.CharField(max_length=255)
    args = models.JSONField("arguments", default=list, blank=True, help_text='A JSON list, such as ["a", 1].')
    kwargs = models.JSONField("keyword arguments", default=dict, blank=True, help_text='A JSON object: {"rows": 10}.')

    class Meta:
        ordering = ["position"]
        constraints = [
            models.UniqueConstraint(
                fields=["pipeline", "position"],
                name="pipelines_step_one_per_position",
                deferrable=models.Deferrable.DEFERRED,
            ),
        ]

    def __str__(self) -> str:
        return f"{self.position}. {self.task}"

    def clean(self) -> None:
        """Report an unknown task or a payload that JSON cannot hold at its field."""
        try:
            services.check_step(self.task, self.args, self.kwargs)
        except InvalidInput as error:
            raise ValidationError({error.field: str(error)}) from error

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Raises `InvalidInput` for fields `task`, `args` or `kwargs`."""
        services.check_step(self.task, self.args, self.kwargs)
        super().save(*args, **kwargs)


class PipelineExecution(models.Model):
    """One run of a pipeline. Its id is the run's and the message's. Outlives its pipeline."""

    id = models.UUIDField(primary_key=True, editable=False)
    pipeline = models.ForeignKey(Pipeline, null=True, on_delete=models.SET_NULL, related_name="executions")
    pipeline_name = models.CharField(max_length=255)
    organization = models.ForeignKey(Organization, on_delete=models.PROTECT, related_name="executions")
    attempt = models.PositiveSmallIntegerField(default=1)
    """The attempt that owns the row: a worker that lost its claim holds a lower one, and changes nothing."""
    state = models.CharField(max_length=16, choices=[(s.value, s.label) for s in ExecutionState])
    started_at = models.DateTimeField(db_default=Now())
    finished_at = models.DateTimeField(null=True, blank=True)
    result = models.JSONField(null=True, blank=True)
    """What the last step returned."""
    error = models.TextField(blank=True)

    class Meta:
        verbose_name = "execution"
        indexes = [
            models.Index(fields=["pipeline", "-started_at", "id"], name="pipelines_execution_of"),
            models.Index(fields=["organization", "-started_at", "id"], name="pipelines_execution_recent"),
            models.Index(fields=["-started_at", "id"], name="pipelines_execution_latest"),
            models.Index(
                fields=["started_at", "id"], name="pipelines_execution_running", condition=models.Q(state="running")
            ),
        ]

    def __str__(self) -> str:
        return f"{self.pipeline_name}: {ExecutionState(self.state).label}"


class StepExecution(models.Model):
    """One step of one run: what was to run, copied when the run began, and what became of it."""

    execution = models.ForeignKey(PipelineExecution, on_delete=models.CASCADE, related_name="steps")
    position = models.PositiveSmallIntegerField()
    task = models.CharField(max_length=255)
    args = models.JSONField(default=list)
    kwargs = models.JSONField(default=dict)
    state = models.CharField(
        max_length=16, choices=[(s.value, s.label) for s in StepState], default=StepState.NOT_RUN.value
    )
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)
    result = models.JSONField(null=True, blank=True)
    error = models.TextField(blank=True)

    class Meta:
        ordering = ["position"]
        constraints = [
            models.UniqueConstraint(fields=["execution", "position"], name="pipelines_stepexecution_once"),
        ]

    def __str__(self) -> str:
        return f"{self.position}. {self.task}: {StepState(self.state).label}"


class TimeZoneChange(models.Model):
    """A change of an official UTC offset, as loaded from the CSV file by `pipelines.load_csv`."""

    zone = models.CharField(max_length=64)
    country = models.CharField(max_length=2)
    changed_at = models.DateTimeField()
    offset_before_minutes = models.SmallIntegerField()
    offset_after_minutes = models.SmallIntegerField()
    abbreviation = models.CharField(max_length=8)

    class Meta:
        verbose_name = "time zone change"

    def __str__(self) -> str:
        return f"{self.zone} {self.changed_at:%Y-%m-%d %H:%M}"


class TimeZoneShift(models.Model):
    """A change as `pipelines.transform` has understood it."""

    zone = models.CharField(max_length=64)
    region = models.CharField(max_length=32)
    """The first part of the zone's name."""
    changed_at = models.DateTimeField()
    year = models.SmallIntegerField()
    shift_minutes = models.SmallIntegerField()
    """Positive where clocks went forward."""

    class Meta:
        verbose_name = "time zone shift"

    def __str__(self) -> str:
        return f"{self.zone} {self.changed_at:%Y-%m-%d %H:%M} {self.shift_minutes:+d} min"


class TimeZoneSummary(models.Model):
    """Offset changes per year and region, written by `pipelines.aggregate`."""

    year = models.SmallIntegerField()
    region = models.CharField(max_length=32)
    zones = models.IntegerField()
    changes = models.IntegerField()
    forward = models.IntegerField()
    backward = models.IntegerField()
    first_at = models.DateTimeField()
    last_at = models.DateTimeField()

    class Meta:
        verbose_name = "time zone summary"
        verbose_name_plural = "time zone summaries"
        constraints = [models.UniqueConstraint(fields=["year", "region"], name="pipelines_summary_once")]

    def __str__(self) -> str:
        return f"{self.region} {self.year}"


class DemoSeeding(models.Model):
    """That the demo was made in this database: what a person has deleted of it since stays deleted. At most one row."""

    id = models.PositiveSmallIntegerField(primary_key=True, default=1, editable=False)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+")
    """The user whom the demo made; None: deleted since."""
    made_at = models.DateTimeField(db_default=Now(), editable=False)
    beat_made_at = models.DateTimeField(null=True, editable=False)
    """When the schedules that Celery Beat fires were added; None: never."""

    class Meta:
        constraints = [
            models.CheckConstraint(condition=models.Q(id=1), name="pipelines_demo_once"),
        ]

    def __str__(self) -> str:
        return f"demo of {self.made_at:%Y-%m-%d %H:%M}"
