"""What the admin does with a schedule that cannot be changed: it says so, and goes on with the others."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import pytest
from django.contrib.admin.models import LogEntry
from django.db import connection
from django.urls import reverse
from django_celery_beat.models import PeriodicTask

from backend.pipelines import services
from backend.pipelines.admin import NO_SCHEDULE
from backend.pipelines.models import Pipeline
from scheduler import api
from scheduler.admin.schedules import ORPHANED
from scheduler.beat import mirror

pytestmark = pytest.mark.django_db
LIST = "/admin/scheduler/pgperiodicschedule/"
FORM = {
    "pipeline_name": "Nightly",
    "task": "echo",
    "args": "[]",
    "kwargs": "{}",
    "kind": "crontab",
    "cron_string": "0 3 * * *",
    "timezone": "UTC",
    "dialect": "unix",
    "queue": "default",
    "priority": "5",
}


def text(response):
    return " ".join(re.sub(r"<[^>]+>", " ", response.content.decode()).split())


def page_of(schedule):
    return reverse("admin:scheduler_pgperiodicschedule_change", args=[schedule.pk])


def act(browser, name, schedule, **form):
    return browser.post(reverse(f"admin:scheduler_{name}", args=[schedule.pk]), form, follow=True)


def bulk(browser, action, rows, url=LIST, **more):
    return browser.post(url, {"action": action, "_selected_action": [row.pk for row in rows], **more}, follow=True)


def errors_of(response):
    return {k: [str(e) for e in v] for k, v in response.context["adminform"].form.errors.items()}


def written_past_us(schedule, **columns):
    """The row as somebody has written it by SQL."""
    names = ", ".join(f"{name} = %s" for name in columns)
    with connection.cursor() as cursor:
        cursor.execute(
            f"UPDATE scheduler_pgperiodicschedule SET {names} WHERE pipeline_id = %s", [*columns.values(), schedule.pk]
        )


@pytest.fixture
def orphan(make_schedule):
    """A schedule that Beat fired, until somebody deleted its task in django-celery-beat's own admin."""
    schedule = make_schedule(name="Orphan", firer="beat")
    PeriodicTask.objects.filter(name=schedule.beat_name).delete()
    return schedule


@pytest.mark.parametrize(("name", "refusal"), [("pause", "Not paused."), ("resume", "Not resumed.")])
def test_a_schedule_whose_beat_task_is_gone_is_not_switched_and_the_page_says_why(browser, orphan, name, refusal):
    shown = text(act(browser, name, orphan, reason="x"))
    assert f"{refusal} {ORPHANED}" in shown
    assert not LogEntry.objects.exists()


def test_a_schedule_whose_beat_task_is_gone_is_not_edited_and_the_form_says_why(browser, orphan):
    answer = browser.post(page_of(orphan), {**FORM, "pipeline_name": "Renamed"})
    assert errors_of(answer) == {"__all__": [ORPHANED]}
    assert "Renamed" in answer.content.decode(), "what was typed is kept"


def test_a_schedule_whose_beat_task_is_gone_can_be_deleted(browser, orphan):
    assert browser.post(f"{LIST}{orphan.pk}/delete/", {"post": "yes"}).status_code == 302
    assert not api.PgPeriodicSchedule.objects.exists()


def test_a_bulk_pause_says_which_schedule_was_refused_and_pauses_the_rest(browser, orphan, make_schedule):
    other = make_schedule()
    shown = text(bulk(browser, "pause_selected", [orphan, other], confirmed="1", reason="move"))
    assert "Paused 1 schedule." in shown
    assert f"1 refused: Orphan: {ORPHANED}" in shown
    assert api.get_schedule(other.pk).pause_note == "move"


@pytest.mark.parametrize("action", ["delete_selected", "resume_selected", "run_selected"])
def test_a_bulk_action_meets_a_schedule_that_went_meanwhile_and_does_the_rest(
    browser, make_schedule, monkeypatch, action
):
    gone, other = make_schedule(name="Gone"), make_schedule(name="Other")
    name = {"delete_selected": "delete_schedule", "resume_selected": "resume_schedule"}.get(action, "run_schedule")
    delete, choke_point = api.delete_schedule, getattr(api, name)

    def delete_first(schedule_id):
        if schedule_id == gone.pk:
            delete(gone.pk)
        return choke_point(schedule_id)

    monkeypatch.setattr(api, name, delete_first)
    shown = text(bulk(browser, action, [gone, other], post="yes"))
    assert re.search(r"(Deleted|Resumed|Started a run of) 1 schedule\.", shown)
    assert f"1 refused: Gone: schedule: expected the id of an existing schedule, got: &#x27;{gone.pk}&#x27;" in shown
    assert LogEntry.objects.count() == 1


def test_deleting_a_schedule_that_went_meanwhile_says_so(browser, make_schedule, monkeypatch):
    schedule = make_schedule()
    delete = api.delete_schedule

    def delete_twice(schedule_id):
        delete(schedule_id)
        delete(schedule_id)

    monkeypatch.setattr(api, "delete_schedule", delete_twice)
    shown = text(browser.post(f"{LIST}{schedule.pk}/delete/", {"post": "yes"}, follow=True))
    assert "Not deleted. schedule: expected the id of an existing schedule" in shown
    assert not LogEntry.objects.exists()


@pytest.mark.parametrize("firer", ["pg", "beat"])
def test_a_pipelines_schedule_cannot_take_the_name_of_another_pipeline(browser, make_pipeline, settings, firer):
    settings.SCHEDULER = {"DEFAULT_FIRER": firer}
    make_pipeline(name="Taken")
    schedule = api.get_schedule(make_pipeline(name="Ours").pk)
    form = {**FORM, "task": "pipelines.run", "kwargs": f'{{"pipeline_id": "{schedule.pk}"}}'}
    answer = browser.post(page_of(schedule), {**form, "pipeline_name": " Taken "})
    assert list(errors_of(answer)) == ["pipeline_name"]
    assert "a name that no other pipeline of the organization has" in errors_of(answer)["pipeline_name"][0]
    assert api.get_schedule(schedule.pk).pipeline_name == "Ours"
    assert not PeriodicTask.objects.filter(description__contains="Taken").exclude(description="Taken").exists()
    assert PeriodicTask.objects.get(name=schedule.beat_name).description == "Ours"
    assert not api.mirror_failures().exists()
    assert browser.post(page_of(schedule), {**form, "pipeline_name": "Free"}).status_code == 302
    assert Pipeline.objects.get(pk=schedule.pk).name == "Free"


def test_a_name_that_is_taken_in_the_same_moment_is_refused_by_the_database_and_shown_at_its_field(
    browser, make_pipeline, monkeypatch
):
    monkeypatch.setattr(services, "check_schedule_change", lambda *_: None)
    make_pipeline(name="Taken")
    schedule = api.get_schedule(make_pipeline(name="Ours").pk)
    answer = browser.post(page_of(schedule), {**FORM, "pipeline_name": "Taken"})
    assert list(errors_of(answer)) == ["pipeline_name"]
    assert "got: 'Taken'" in errors_of(answer)["pipeline_name"][0]


def test_a_bulk_action_that_the_database_refuses_names_the_schedule_and_does_the_rest(browser, make_pipeline):
    make_pipeline(name="Taken")
    schedules = [api.get_schedule(make_pipeline(name=name).pk) for name in ("A", "B")]
    with connection.cursor() as cursor:  # the trigger does not see this one; it sees the pause
        cursor.execute("UPDATE scheduler_pgperiodicschedule SET pipeline_name = 'Taken' WHERE pipeline_name = 'A'")
    shown = text(bulk(browser, "pause_selected", schedules, confirmed="1"))
    assert "Paused 1 schedule." in shown
    assert "1 refused: Taken: name: expected a name that no other pipeline of the organization has" in shown
    assert [api.get_schedule(schedule.pk).enabled for schedule in schedules] == [True, False]


@pytest.mark.parametrize("firer", ["pg", "beat"])
@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"timezone": "Mars/Base"}, "timezone: expected"),
        ({"cron_string": "nonsense"}, "expression: expected"),
        ({"kind": "interval", "interval_seconds": 5}, "expression: expected"),
    ],
)
def test_the_page_of_a_row_that_cannot_be_evaluated_says_why_in_place_of_the_next_runs(
    browser, make_schedule, firer, columns, words
):
    schedule = make_schedule(firer=firer)
    written_past_us(schedule, **columns)
    answer = browser.get(page_of(schedule))
    assert answer.status_code == 200
    assert answer.context["upcoming_error"].startswith(words)
    assert f'db-problem">{words}' in answer.content.decode()
    assert browser.get(LIST).status_code == 200


def test_a_row_that_cannot_be_evaluated_is_mended_in_its_form(browser, make_schedule):
    schedule = make_schedule()
    written_past_us(schedule, timezone="Mars/Base")
    answer = browser.post(page_of(schedule), {**FORM, "timezone": "Mars/Base", "pipeline_name": "Renamed"})
    assert list(errors_of(answer)) == ["timezone"]
    assert browser.post(page_of(schedule), FORM).status_code == 302
    assert len(browser.get(page_of(schedule)).context["upcoming"]) == 10


def test_a_refused_form_shows_the_next_runs_of_what_was_typed(browser, make_schedule):
    schedule = make_schedule()
    answer = browser.post(page_of(schedule), {**FORM, "queue": "no spaces", "cron_string": "30 4 * * *"})
    assert list(errors_of(answer)) == ["queue"]
    assert answer.context["upcoming"][0]["utc"].endswith("04:30:00 UTC")
    answer = browser.post(page_of(schedule), {**FORM, "kind": "interval"})
    assert answer.context["upcoming_error"].startswith("expression: expected")


def test_the_page_of_a_pipeline_whose_schedule_cannot_be_evaluated_says_why(browser, make_pipeline):
    pipeline = make_pipeline()
    written_past_us(api.get_schedule(pipeline.pk), timezone="Mars/Base")
    answer = browser.get(reverse("admin:pipelines_pipeline_change", args=[pipeline.pk]))
    assert answer.status_code == 200
    assert 'db-problem">timezone: expected' in answer.content.decode()


def test_a_pipeline_whose_schedule_is_gone_is_not_paused_and_the_page_says_what_to_do(browser, make_pipeline, settings):
    settings.SCHEDULER = {**settings.SCHEDULER, "DEFAULT_FIRER": "beat"}
    orphan, bare = make_pipeline(name="Orphan"), make_pipeline(name="Bare")
    PeriodicTask.objects.filter(name=str(orphan.pk)).delete()
    api.delete_schedule(bare.pk)
    for pipeline in (orphan, bare):
        answer = browser.post(reverse("admin:pipelines_pause", args=[pipeline.pk]), {"reason": "x"}, follow=True)
        assert f"Not paused. {NO_SCHEDULE}" in text(answer)
    assert not LogEntry.objects.exists()


def test_resuming_pipelines_names_the_one_that_is_refused_and_does_the_rest(browser, make_pipeline):
    bad, good = (make_pipeline(name=name, active=False) for name in ("Bad", "Good"))
    written_past_us(api.get_schedule(bad.pk), timezone="Mars/Base", quarantined_at=datetime.now(UTC))
    shown = text(bulk(browser, "resume_selected", [bad, good], "/admin/pipelines/pipeline/"))
    assert "Resumed 1 pipeline." in shown
    assert "1 refused: Bad: timezone: expected" in shown
    assert Pipeline.objects.get(pk=good.pk).active
    assert not Pipeline.objects.get(pk=bad.pk).active


def test_a_change_that_the_mirror_missed_is_not_passed_off_as_seen(browser, make_schedule, monkeypatch):
    schedule = make_schedule(firer="beat")
    edited = {**FORM, "pipeline_name": "Renamed"}
    assert "its copy here" not in text(browser.post(page_of(schedule), edited, follow=True))

    def locked(*_):
        raise RuntimeError("the mirror is locked")

    with monkeypatch.context() as patched:
        patched.setattr(mirror, "_write", locked)
        for shown in (browser.post(page_of(schedule), FORM, follow=True), act(browser, "pause", schedule, reason="")):
            assert "its copy here could not be written" in text(shown)
            assert "RuntimeError: the mirror is locked" in text(shown)
    assert "its copy here" not in text(act(browser, "pause", schedule, reason=""))
