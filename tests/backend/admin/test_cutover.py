"""Schedules handed over and given back in the admin: the pages that ask, what is said afterwards, and who may."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client
from django.utils import timezone
from django.utils.html import strip_tags

from scheduler import api
from tests.backend.handovers import beat_lives, beat_sends_the_canary, handover

pytestmark = pytest.mark.django_db
LIST, CUTOVER = "/admin/scheduler/pgperiodicschedule/", "/admin/scheduler/pgperiodicschedule/cutover/"
MAY = ["view_pgperiodicschedule", "change_pgperiodicschedule", "view_handover"]


@pytest.fixture
def ours(make_schedule):
    return make_schedule(name="Ours <b>", firer="beat", organization_id="acme")


@pytest.fixture
def acme_browser(make_user, acme):
    """A member of acme who may change schedules, and pass nothing over."""
    client = Client()
    client.force_login(make_user("ann", acme, permissions=[f"scheduler.{name}" for name in MAY], staff=True))
    return client


def said(page):
    return [strip_tags(str(one)) for one in page.context["messages"]]


def select(browser, rows, action, **sent):
    chosen = {"action": action, "_selected_action": [row.pk for row in rows], "select_across": "0"}
    return browser.post(LIST, chosen | sent, follow=True)


def test_one_is_handed_over_and_taken_back_by_the_buttons_of_its_page(browser, acme, ours):
    beat, url = beat_lives(), f"{LIST}{ours.pk}/"
    assert f'href="{url}promote/">Hand over to PG…' in browser.get(f"{url}change/").content.decode()
    asked = browser.get(f"{url}promote/").content.decode()
    assert "evidence: 0 of 20 occurrences in a row compared clean" in asked
    assert "Ours &lt;b&gt;" in asked
    assert not api.Handover.objects.exists()

    assert "1 schedule refused: Ours" in said(browser.post(f"{url}promote/", {"reason": "x"}, follow=True))[0]
    page = browser.post(f"{url}promote/", {"reason": "quarter's end", "force": "on"}, follow=True)
    assert said(page)[0].startswith("Handing over 1 schedule: PG goes on as soon as Celery Beat has loaded the change")
    text = page.content.decode()
    assert "is being handed over: waits for Celery Beat" in text
    assert f'href="{url}roll-back/">Take back to Celery Beat…' in text
    assert "is being handed over" in browser.get(LIST).content.decode()
    assert "taken back: Celery Beat goes on firing it" in browser.get(f"{url}roll-back/").content.decode()
    assert said(browser.post(f"{url}roll-back/", follow=True))[0].startswith("Took back the hand-over of 1 schedule")

    browser.post(f"{url}promote/", {"reason": "again", "force": "on"})
    beat_sends_the_canary(beat)
    page = browser.post(f"{url}roll-back/", {"reason": "enough"}, follow=True)
    assert said(page)[-1].startswith("Giving 1 schedule to Celery Beat: PG fires what occurs until ")
    assert "goes back to Celery Beat at " in page.content.decode()
    assert page.context["hand_over"] is None
    assert list(LogEntry.objects.order_by("pk").values_list("change_message", flat=True)) == [
        "Handed over to PG (waiting, without the evidence): quarter's end",
        "Took back its hand-over to PG",
        "Handed over to PG (waiting, without the evidence): again",
        "Given to Celery Beat (waiting): enough",
    ]
    assert set(api.Handover.objects.values_list("actor", flat=True)) == {"root"}


def test_many_are_handed_over_after_a_page_with_the_plan_of_each(browser, default, make_schedule):
    made = [make_schedule(name=f"n{number}", firer="beat") for number in range(3)]
    pgs = make_schedule(name="pg")
    asked = select(browser, [*made, pgs], "promote_selected")
    assert "As things are, nothing is handed over. Celery Beat: expected one live process" in strip_tags(
        asked.content.decode()
    )
    assert [strip_tags(one["status"]) for one in asked.context["plan"]].count("refused") == 3
    refused = select(browser, made, "promote_selected", confirmed="1", force="on")
    assert said(refused)[0].startswith("Nothing was changed. Celery Beat: expected one live process")
    beat_lives("gate")
    page = select(browser, [*made, pgs], "promote_selected", confirmed="1", force="on", reason="all of it")
    assert said(page) == ["PG fires 3 schedules now.", "1 schedule unchanged: pg: PG fires it already"]
    assert LogEntry.objects.count() == 3
    asked = select(browser, made, "roll_back_selected").content.decode()
    assert "Celery Beat fires what occurs more than 10 seconds from now" in asked
    page = select(browser, made, "roll_back_selected", confirmed="1")
    assert said(page)[0].startswith("Giving 3 schedules to Celery Beat")


def test_what_was_said_wrongly_is_asked_again(browser, default, make_schedule):
    row = make_schedule(firer="beat")
    page = browser.post(f"{LIST}{row.pk}/promote/", {"reason": "x" * 501})
    assert "at most 500 characters" in page.content.decode()
    page = select(browser, [row], "promote_selected", confirmed="1", reason="x" * 501)
    assert "at most 500 characters" in page.content.decode()


def test_the_page_tells_where_the_cutover_stands_and_what_to_do(browser, default, make_schedule):
    waiting, done = (make_schedule(name=name, firer="beat") for name in ("Waits", "Is done <b>"))
    beat_lives(heartbeat_at=timezone.now() - timedelta(minutes=5))
    handover(done, reason="the <end>", is_forced=True)
    since = timezone.now() - timedelta(minutes=1)
    handover(waiting, state="waiting", ended_at=None, requested_at=since)
    text = browser.get(CUTOVER).content.decode()
    for words in ("No Celery Beat lives that tells of itself", "start it, `cutover rollback` to go back", "Waits"):
        assert words in text
    assert "Is done &lt;b&gt;" in text
    assert "the &lt;end&gt;" in text
    assert CUTOVER in browser.get(LIST).content.decode()


def test_the_page_costs_the_same_queries_however_many_hand_overs(
    browser, default, make_schedule, django_assert_max_num_queries
):
    for number in range(10):
        handover(make_schedule(name=f"n{number}"), state="waiting", ended_at=None)
    for url in (CUTOVER, "/admin/scheduler/handover/"):
        with django_assert_max_num_queries(16):
            assert "n9" in browser.get(url).content.decode()


def test_a_ramp_is_planned_and_then_made(browser, default, make_schedule):
    made = [make_schedule(name=f"n{number}", firer="beat") for number in range(8)]
    half = sorted(api.bucket_of(row.pk) for row in made)[4]
    below = sorted(row.pipeline_name for row in made if api.bucket_of(row.pk) < half)
    sent = {"percent": str(half), "force": "on", "reason": "half"}
    page = browser.post(CUTOVER, {**sent, "plan": "1"})
    assert sorted(one["name"] for one in page.context["plan"]["rows"]) == below
    assert not api.Handover.objects.exists()
    assert said(browser.post(CUTOVER, sent, follow=True))[0].startswith("Nothing more was handed over. Celery Beat:")
    beat_lives("gate")
    page = browser.post(CUTOVER, sent, follow=True)
    assert page.context["found"].pgs == len(below)
    assert LogEntry.objects.count() == len(below)
    assert "less than or equal to 100" in browser.post(CUTOVER, {"percent": "101"}).content.decode()
    page = browser.post(CUTOVER, {"percent": "0"}, follow=True)
    assert page.context["found"].to_beat == len(below)


def test_a_member_sees_and_moves_only_what_is_theirs_and_passes_nothing_over(acme_browser, ours, make_schedule):
    beat_lives("gate")
    theirs = make_schedule(name="Theirs", firer="beat")
    handover(theirs)
    page = acme_browser.get(CUTOVER)
    assert (page.context["found"].beats, page.context["latest"]) == (1, [])
    assert [slug for slug, _ in page.context["form"].fields["organization"].choices] == ["", "acme"]
    assert "force" not in page.context["form"].fields
    assert "valid choice" in acme_browser.post(CUTOVER, {"percent": "1", "organization": "default"}).content.decode()
    for path in ("promote/", "roll-back/"):
        assert acme_browser.post(f"{LIST}{theirs.pk}/{path}").status_code in {302, 404}
    for sent in ({"confirmed": "1", "force": "on"}, {"confirmed": "1", "beat_stopped": "on"}):
        page = select(acme_browser, [ours, theirs], "promote_selected", **sent)
        assert [words.split(":")[0] for words in said(page)] == ["1 schedule refused"]
    page = acme_browser.post(CUTOVER, {"percent": "100", "force": "on", "plan": "1"})
    assert [one["name"] for one in page.context["plan"]["rows"]] == ["Ours <b>"]
    acme_browser.post(CUTOVER, {"percent": "100", "force": "on"})
    assert set(api.PgPeriodicSchedule.objects.values_list("firer", flat=True)) == {"beat"}
    api.PgPeriodicSchedule.objects.filter(pk=theirs.pk).update(firer="pg")
    acme_browser.post(CUTOVER, {"percent": "0"})
    assert api.get_schedule(theirs.pk).beat_from is None


@pytest.mark.parametrize("missing", MAY)
def test_each_page_asks_for_its_permission(make_user, acme, ours, missing):
    client = Client()
    kept = [f"scheduler.{name}" for name in MAY if name != missing]
    client.force_login(make_user("ann", acme, permissions=kept, staff=True))
    changes = 200 if missing != "change_pgperiodicschedule" else 403
    assert client.get(f"{LIST}{ours.pk}/promote/").status_code == changes
    looks = 403 if missing == "view_handover" else 200
    assert client.get(CUTOVER).status_code == looks
    assert client.post(CUTOVER, {"percent": "1", "plan": "1"}).status_code == max(looks, changes)


def test_without_celery_beat_nothing_is_offered(browser, default, make_schedule, monkeypatch):
    monkeypatch.setattr("scheduler.beat.is_installed", lambda: False)
    row = make_schedule()
    assert "promote" not in browser.get(f"{LIST}{row.pk}/change/").content.decode()
    assert "promote_selected" not in browser.get(LIST).content.decode()
    assert "django-celery-beat is not installed" in browser.get(CUTOVER).content.decode()
