"""Two organizations in the admin: of every registered model a member sees the rows of their own organization only."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib import admin
from django.core import serializers
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from django_celery_beat.models import PeriodicTask

from backend.pipelines import tasks
from backend.pipelines.models import Organization, Pipeline, PipelineExecution
from pg_queue import api as queue
from pg_queue.models import DeadLetter, Event, Leader, Message, Operation, Result, Switch, Worker
from scheduler import api
from tests.backend.handovers import handover

pytestmark = pytest.mark.django_db

APPS = {"scheduler", "pg_queue", "pipelines", "django_celery_beat"}
OF_NOBODY = {"pipelines.timezonesummary"}
"""The demo's figures: the same for everybody."""
FOR_SUPERUSERS = {
    "pg_queue.worker": lambda: Worker.objects.create(
        id="host:1:2", host="host", process_id=1, queues=["default"], concurrency=1, started_at=timezone.now()
    ),
    "scheduler.beatprocess": lambda: beat_process(),
    "pg_queue.switch": lambda: Switch.objects.create(queue="mail", is_on=False, changed_by="root"),
    "pg_queue.operation": lambda: Operation.objects.create(actor="root", action="off", store="default", queue="mail"),
    "pg_queue.event": lambda: Event.objects.create(id=uuid.uuid4(), topic="t", key="k"),
    "pg_queue.leader": lambda: Leader.objects.create(name="scheduler", term=1),
    "django_celery_beat.periodictask": lambda: PeriodicTask.objects.get(name=str(schedule("acme").pk)),
}


def schedule(slug: str) -> api.PgPeriodicSchedule:
    return api.create_schedule(name=f"of {slug}", task="echo", expression="@daily", organization_id=slug)


def pipeline(slug: str) -> Pipeline:
    made = Pipeline(name=f"of {slug}", expression="@daily", organization_id=slug)
    made.save()
    return made


def settled(slug: str) -> dict[str, Any]:
    now = timezone.now()
    return {
        "task": "echo", "queue": f"q-{slug}", "priority": 5, "organization_id": slug, "attempts": 1,
        "max_attempts": 1, "enqueued_at": now,
    }  # fmt: skip


def mirror_failure(slug: str, *, is_row_there: bool = True) -> api.MirrorFailure:
    row = schedule(slug)
    intended = None if is_row_there else json.loads(serializers.serialize("json", [row]))[0]
    if not is_row_there:
        api.PgPeriodicSchedule.objects.filter(pk=row.pk).delete()
    return api.MirrorFailure.objects.create(
        schedule_id=row.pk, beat_name=row.beat_name, path="create", error="boom", intended=intended
    )


def mirror_drift(slug: str) -> api.MirrorDrift:
    return api.MirrorDrift.objects.create(
        schedule_id=uuid.uuid4(), beat_name="b", organization_id=slug, what="stale", details={"queue": ["a", "b"]}
    )


def beat_catch(slug: str) -> api.BeatCatch:
    row = schedule(slug)
    PeriodicTask.objects.filter(name=row.beat_name).update(enabled=True)
    return api.BeatCatch.objects.get(schedule_id=row.pk)


def beat_process() -> api.BeatProcess:
    return api.BeatProcess.objects.create(host="host", process_id=1, scheduler="module:Class", mode="gate")


def beat_send(slug: str) -> api.BeatSend:
    row = schedule(slug)
    return api.BeatSend.objects.create(
        process=beat_process(),
        schedule_id=row.pk,
        beat_name=row.beat_name,
        message_id="1",
        sent_at=timezone.now(),
        is_first=True,
        state="claimed",
    )


def message(slug: str) -> Message:
    return Message.objects.get(pk=queue.enqueue("echo", [slug], organization_id=slug, queue=f"q-{slug}"))


MAKE: dict[str, Callable[[str], Any]] = {
    "scheduler.pgperiodicschedule": schedule,
    "scheduler.schedulerun": lambda slug: api.run_schedule(schedule(slug).pk),
    "scheduler.mirrorfailure": mirror_failure,
    "scheduler.mirrordrift": mirror_drift,
    "scheduler.beatcatch": beat_catch,
    "scheduler.beatsend": beat_send,
    "scheduler.handover": lambda slug: handover(schedule(slug)),
    "pg_queue.message": message,
    "pg_queue.result": lambda slug: Result.objects.create(
        message_id=uuid.uuid4(), state="succeeded", run_after=timezone.now(), **settled(slug)
    ),
    "pg_queue.deadletter": lambda slug: DeadLetter.objects.create(
        id=uuid.uuid4(), error={"type": slug}, **settled(slug)
    ),
    "pipelines.organization": lambda slug: Organization.objects.get(pk=slug),
    "pipelines.pipeline": pipeline,
    "pipelines.pipelineexecution": lambda slug: PipelineExecution.objects.get(
        pk=tasks.run(str(pipeline(slug).pk))["execution"]
    ),
}


def url_of(row: Any, page: str = "change") -> str:
    args = [] if page == "changelist" else [row.pk]
    return reverse(f"admin:{row._meta.app_label}_{row._meta.model_name}_{page}", args=args)


def listed(client: Client, row: Any, query: str = "") -> set[Any]:
    """The keys of the rows that the list shows."""
    page = client.get(url_of(row, "changelist") + query)
    assert page.status_code == 200
    return {shown.pk for shown in page.context["cl"].result_list}


@pytest.fixture
def ann(make_user, acme) -> Client:
    """A member of acme with every permission."""
    client = Client()
    client.force_login(make_user("ann", acme, staff=True))
    return client


def test_every_registered_model_is_accounted_for():
    registered = {model._meta.label_lower for model in admin.site._registry if model._meta.app_label in APPS}
    beats = {label for label in registered if label.startswith("django_celery_beat.")}
    assert registered - beats == {*MAKE, *FOR_SUPERUSERS, *OF_NOBODY} - beats


@pytest.mark.parametrize("label", MAKE)
def test_a_member_finds_the_rows_of_their_own_organization_only(ann, browser, default, label):
    theirs, ours = MAKE[label]("default"), MAKE[label]("acme")
    query = "?organization=default" if label == "scheduler.schedulerun" else ""
    assert listed(ann, ours) == {ours.pk}
    assert theirs.pk not in listed(ann, theirs, query)
    assert ann.get(url_of(ours)).status_code == 200
    for page in ("change", "history", "delete"):
        assert ann.get(url_of(theirs, page)).status_code in {302, 403, 404}, page
    assert theirs.pk in listed(browser, theirs)
    assert browser.get(url_of(theirs)).status_code == 200


@pytest.mark.parametrize("label", ["pg_queue.message", "pg_queue.result", "pg_queue.deadletter"])
def test_a_filter_does_not_tell_of_other_organizations(ann, default, label):
    theirs = MAKE[label]("default")
    MAKE[label]("acme")
    shown = ann.get(url_of(theirs, "changelist")).content.decode()
    assert "q-acme" in shown
    assert "q-default" not in shown
    assert "Default" not in shown
    assert listed(ann, theirs, "?organization=default") == set()
    assert listed(ann, theirs, f"?q={theirs.pk}") == set()


@pytest.mark.parametrize("label", FOR_SUPERUSERS)
def test_what_belongs_to_no_organization_is_for_superusers(ann, browser, label):
    row = FOR_SUPERUSERS[label]()
    for page in ("changelist", "change", "delete"):
        assert ann.get(url_of(row, page)).status_code == 403
    assert row._meta.verbose_name_plural.lower() not in ann.get("/admin/").content.decode().lower()
    assert listed(browser, row) == {row.pk}
    assert browser.get(url_of(row)).status_code == 200


def test_a_member_replays_the_dead_letters_of_their_own_organization_only(ann, default):
    theirs, ours = MAKE["pg_queue.deadletter"]("default"), MAKE["pg_queue.deadletter"]("acme")
    chosen = {"action": "replay", "_selected_action": [theirs.pk, ours.pk]}
    page = ann.post(url_of(ours, "changelist"), chosen, follow=True)
    assert "1 messages wait again." in page.content.decode()
    assert set(Message.objects.values_list("pk", flat=True)) == {ours.pk}
    assert DeadLetter.objects.get().pk == theirs.pk


def test_a_failure_without_a_mirror_row_is_of_the_organization_that_was_to_be_written(ann, browser, default):
    theirs, ours = mirror_failure("default", is_row_there=False), mirror_failure("acme", is_row_there=False)
    unknown = api.MirrorFailure.objects.create(schedule_id=uuid.uuid4(), beat_name="b", path="delete", error="boom")
    assert listed(ann, ours) == {ours.pk}
    assert listed(browser, ours) == {theirs.pk, ours.pk, unknown.pk}


def test_a_difference_whose_organization_is_not_known_is_for_superusers(ann, browser):
    ours, unknown = mirror_drift("acme"), mirror_drift("")
    assert listed(ann, ours) == {ours.pk}
    assert listed(browser, ours) == {ours.pk, unknown.pk}


def test_what_was_caught_of_a_deleted_schedule_is_for_superusers(ann, browser):
    kept, deleted = beat_catch("acme"), beat_catch("acme")
    api.delete_schedule(deleted.schedule_id)
    assert listed(ann, kept) == {kept.pk}
    assert listed(browser, kept) == {kept.pk, deleted.pk}


def test_a_send_that_is_no_schedules_is_for_superusers_and_a_claim_of_a_beat_that_is_gone_is_unknown(ann, browser):
    sent, unmirrored = beat_send("acme"), beat_send("acme")
    api.BeatSend.objects.filter(pk=unmirrored.pk).update(schedule_id=None)
    assert listed(ann, sent) == {sent.pk}
    assert listed(browser, sent) == {sent.pk, unmirrored.pk}
    assert listed(browser, sent, "?unknown=yes") == set()
    api.BeatProcess.objects.filter(pk=sent.process_id).update(stopped_at=timezone.now())
    api.BeatProcess.objects.filter(pk=unmirrored.process_id).delete()
    assert listed(browser, sent, "?unknown=yes") == {sent.pk, unmirrored.pk}
    assert listed(browser, sent, f"?q={sent.beat_name}") == {sent.pk}
    assert browser.get(url_of(unmirrored)).status_code == 200


def test_a_member_sees_no_other_organizations_members(ann, make_user, default):
    make_user("bob", default)
    assert "bob" not in ann.get(url_of(default)).content.decode()
