"""A pipeline and its schedule agree, whichever side is changed, and neither outlives the other wrongly."""

from __future__ import annotations

import pytest
from django.core.exceptions import ValidationError
from django.db import IntegrityError, connection, transaction
from django_celery_beat.models import PeriodicTask

from backend.pipelines import services
from backend.pipelines.models import Organization, Pipeline, PipelineStep
from scheduler import api

pytestmark = pytest.mark.django_db


def schedule_of(pipeline):
    return api.PgPeriodicSchedule.objects.filter(pk=pipeline.pk).first()


def test_a_new_pipeline_has_a_schedule_of_its_id(make_pipeline):
    pipeline = make_pipeline(expression="30 6 * * mon-fri", timezone="Europe/Berlin", dialect="celery")
    schedule = schedule_of(pipeline)
    assert (schedule.task, schedule.kwargs) == ("pipelines.run", {"pipeline_id": str(pipeline.pk)})
    assert (schedule.pipeline_name, schedule.cron_string, schedule.timezone, schedule.dialect) == (
        "Load",
        "30 6 * * mon-fri",
        "Europe/Berlin",
        "celery",
    )
    assert schedule.enabled
    assert schedule.organization_id == "default"


def test_an_inactive_pipeline_has_a_paused_schedule(make_pipeline):
    assert schedule_of(make_pipeline(active=False)).state == "paused"


def test_an_edit_reaches_the_schedule(make_pipeline):
    pipeline = make_pipeline()
    pipeline.name, pipeline.expression, pipeline.active = "Other", "@hourly", False
    pipeline.save()
    schedule = schedule_of(pipeline)
    assert (schedule.pipeline_name, schedule.cron_string, schedule.enabled) == ("Other", "@hourly", False)
    pipeline.refresh_from_db()
    assert (pipeline.name, pipeline.expression, pipeline.active) == ("Other", "@hourly", False)


def test_saving_without_a_change_leaves_the_next_run_alone(make_pipeline):
    pipeline = make_pipeline()
    before = schedule_of(pipeline)
    pipeline.save()
    assert schedule_of(pipeline).updated_at == before.updated_at


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda pk: api.pause_schedule(pk, reason="why"), {"active": False}),
        (lambda pk: api.update_schedule(pk, name="Renamed"), {"name": "Renamed"}),
        (lambda pk: api.update_schedule(pk, expression="5 5 * * *"), {"expression": "5 5 * * *"}),
        (lambda pk: api.update_schedule(pk, timezone="Asia/Tokyo"), {"timezone": "Asia/Tokyo"}),
        (lambda pk: api.delete_schedule(pk), {"active": False}),
    ],
)
def test_a_change_on_the_schedules_side_reaches_the_pipeline(make_pipeline, change, expected):
    pipeline = make_pipeline()
    change(pipeline.pk)
    assert Pipeline.objects.values(*expected).get(pk=pipeline.pk) == expected


def test_the_advance_of_a_tick_does_not_touch_the_pipeline(make_pipeline):
    pipeline = make_pipeline()
    with connection.cursor() as cursor:
        cursor.execute("UPDATE pipelines_pipeline SET name = 'untouched'")
        cursor.execute("UPDATE scheduler_pgperiodicschedule SET next_run_at = next_run_at + interval '1 day'")
    pipeline.refresh_from_db()
    assert pipeline.name == "untouched"


def test_a_pipeline_whose_schedule_was_deleted_makes_a_new_one_when_it_is_saved_unchanged(make_pipeline):
    pipeline = make_pipeline()
    api.delete_schedule(pipeline.pk)
    pipeline.refresh_from_db()
    pipeline.save()
    schedule = schedule_of(pipeline)
    assert (schedule.state, schedule.pipeline_name, schedule.kwargs) == (
        "paused",
        "Load",
        {"pipeline_id": str(pipeline.pk)},
    )


def test_a_pipeline_whose_row_in_beat_is_gone_makes_a_new_schedule_when_it_is_saved(make_pipeline, settings):
    settings.SCHEDULER = {**settings.SCHEDULER, "DEFAULT_FIRER": "beat"}
    pipeline = make_pipeline()
    PeriodicTask.objects.filter(name=str(pipeline.pk)).delete()
    pipeline.save()
    assert schedule_of(pipeline).state == "active"
    assert PeriodicTask.objects.get(name=str(pipeline.pk)).enabled
    assert Pipeline.objects.get().active


def test_a_change_of_one_field_undoes_none_that_was_made_since_the_pipeline_was_read(make_pipeline):
    pipeline = make_pipeline()
    api.pause_schedule(pipeline.pk, reason="meanwhile")
    api.update_schedule(pipeline.pk, timezone="Asia/Tokyo")
    pipeline.name, pipeline.expression = "Renamed", "@hourly"
    with transaction.atomic():
        assert services.refresh(pipeline, keep={"name"})
        pipeline.save()
    schedule = schedule_of(pipeline)
    assert (schedule.pipeline_name, schedule.state, schedule.timezone) == ("Renamed", "paused", "Asia/Tokyo")
    assert schedule.cron_string == "0 3 * * *", "it was not said to be kept"


@pytest.mark.parametrize("firer", ["pg", "beat"])
def test_an_unchanged_pipeline_of_either_firer_keeps_its_schedule(make_pipeline, settings, firer):
    settings.SCHEDULER = {**settings.SCHEDULER, "DEFAULT_FIRER": firer}
    pipeline = make_pipeline()
    before = schedule_of(pipeline)
    pipeline.save()
    assert (schedule_of(pipeline).updated_at, before.firer) == (before.updated_at, firer)


def test_a_pipeline_whose_schedule_was_deleted_makes_a_new_one_when_it_is_activated(make_pipeline):
    pipeline = make_pipeline()
    api.delete_schedule(pipeline.pk)
    pipeline.refresh_from_db()
    pipeline.active = True
    pipeline.save()
    assert schedule_of(pipeline).enabled


@pytest.mark.parametrize(
    "delete",
    [
        lambda pipeline: pipeline.delete(),
        lambda pipeline: Pipeline.objects.filter(pk=pipeline.pk).delete(),
        lambda pipeline: Pipeline.objects.all().delete(),
    ],
)
def test_deleting_leaves_no_schedule_behind(make_pipeline, delete):
    pipeline = make_pipeline({"task": "noop"})
    pk = pipeline.pk
    delete(pipeline)
    assert not api.PgPeriodicSchedule.objects.filter(pk=pk).exists()
    assert not Pipeline.objects.exists()


def test_a_deletion_that_fails_keeps_both(make_pipeline, monkeypatch):
    pipeline = make_pipeline()
    pk = pipeline.pk

    def broken(schedule_id):
        raise RuntimeError("lost connection")

    monkeypatch.setattr(services.api, "delete_schedule", broken)
    with pytest.raises(RuntimeError), transaction.atomic():
        pipeline.delete()
    assert Pipeline.objects.filter(pk=pk).exists()
    assert api.PgPeriodicSchedule.objects.filter(pk=pk).exists()


def test_a_schedule_that_is_refused_leaves_no_pipeline(default):
    with pytest.raises(api.InvalidInput, match="expression"):
        Pipeline(name="Never", expression="0 0 30 2 *").save()
    assert not Pipeline.objects.exists()
    assert not api.PgPeriodicSchedule.objects.exists()


def test_a_second_pipeline_of_the_name_is_refused_by_name(make_pipeline):
    make_pipeline(name="Load")
    with pytest.raises(api.InvalidInput) as refusal:
        make_pipeline(name="Load")
    assert refusal.value.field == "name"
    assert Pipeline.objects.count() == api.PgPeriodicSchedule.objects.count() == 1


def test_the_same_name_is_free_in_another_organization(make_pipeline, acme):
    make_pipeline(name="Load")
    assert make_pipeline(name="Load", organization=acme).pk


def test_renaming_the_schedule_to_a_taken_name_is_refused_by_the_constraint(make_pipeline):
    make_pipeline(name="Load")
    other = make_pipeline(name="Other")
    with pytest.raises(IntegrityError) as error, transaction.atomic():
        api.update_schedule(other.pk, name="Load")
    assert services.refusal(error.value, "Load").field == "name"


@pytest.mark.parametrize(
    "bulk",
    [
        lambda: Pipeline.objects.update(active=False),
        lambda: Pipeline.objects.bulk_create([Pipeline(name="x", expression="@daily")]),
        lambda: Pipeline.objects.bulk_update([], ["name"]),
    ],
)
def test_bulk_writes_that_would_lose_the_schedule_are_refused(bulk):
    with pytest.raises(TypeError, match="save"):
        bulk()


def test_an_organization_with_pipelines_cannot_be_deleted(make_pipeline, default):
    make_pipeline()
    with pytest.raises(IntegrityError):
        Organization.objects.filter(slug="default").delete()


@pytest.mark.parametrize(
    ("step", "field"),
    [
        ({"task": "no.such.task"}, "task"),
        ({"task": "pipelines.run"}, "task"),
        ({"task": "echo", "args": {"a": 1}}, "args"),
        ({"task": "echo", "kwargs": [1]}, "kwargs"),
        ({"task": "echo", "args": ["x" * 300_000]}, "args"),
        ({"task": "echo", "args": [float("nan")]}, "args"),
    ],
)
def test_a_step_that_could_not_run_is_refused_by_field(make_pipeline, step, field):
    pipeline = make_pipeline()
    with pytest.raises(api.InvalidInput) as refusal:
        PipelineStep.objects.create(pipeline=pipeline, position=1, **step)
    assert refusal.value.field == field
    with pytest.raises(ValidationError) as invalid:
        PipelineStep(pipeline=pipeline, position=1, **step).clean()
    assert field in invalid.value.message_dict
