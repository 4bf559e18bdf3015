"""The cutover by REST: what it tells, what it changes, whose schedules, and who may."""

from __future__ import annotations

import uuid
from datetime import timedelta

import pytest
from django.utils import timezone

from scheduler import api
from scheduler.representation import handover_fields
from tests.backend.handovers import beat_lives, beat_sends_the_canary, handover

pytestmark = pytest.mark.django_db
URL, SCHEDULES = "/api/v1/cutover/", "/api/v1/schedules/"
MAY = ["scheduler.view_pgperiodicschedule", "scheduler.change_pgperiodicschedule", "scheduler.view_handover"]


@pytest.fixture
def ours(make_schedule):
    return make_schedule(name="Ours", firer="beat")


@pytest.fixture
def theirs(make_schedule, acme):
    return make_schedule(name="Theirs", firer="beat", organization_id="acme")


@pytest.fixture
def ann(make_user, as_user, default):
    """A member of `default` who may change schedules, and pass nothing over."""
    return as_user(make_user("ann", default, permissions=MAY))


def post(client, action, **body):
    return client.post(f"{URL}{action}/", body, format="json")


def statuses(answer):
    assert answer.status_code == 200, answer.content
    return {one["name"]: one["status"] for one in answer.json()["schedules"]}


def test_there_and_back_by_rest(rest, ours, django_assert_max_num_queries):
    beat = beat_lives()
    assert statuses(post(rest, "promote", schedules=[str(ours.pk)])) == {"Ours": "refused"}
    answer = post(rest, "promote", schedules=[str(ours.pk)], force=True, reason="a test")
    [told] = answer.json()["schedules"]
    assert (told["status"], told["handover"]["is_forced"], told["handover"]["actor"]) == ("waiting", True, "root")
    assert told["to"] == "pg"
    assert (told["handover"]["reason"], told["handover"]["method"]) == ("a test", "canary")

    assert statuses(rest.get(f"{URL}plan/")) == {"Ours": "unchanged"}
    status = rest.get(URL).json()
    assert (status["on_the_way_to_pg"], status["method"], status["obstacle"]) == (1, "canary", "")
    assert [one["hint"] for one in status["waiting"]] == [None]
    assert status["live_beats"] == [{"host": "host", "process_id": 7, "mode": "observe"}]
    with django_assert_max_num_queries(6):
        [listed] = rest.get(SCHEDULES).json()["results"]
    since = told["handover"]["requested_at"]
    under_way = {"to": "pg", "state": "waiting", "since": since, "beat_from": None, "hint": None}
    assert (listed["firer"], listed["handover"]) == ("pg", under_way)

    beat_sends_the_canary(beat)
    assert rest.get(f"{SCHEDULES}{ours.pk}/").json()["handover"] is None
    assert statuses(post(rest, "ramp", percent=100)) == {}
    assert statuses(post(rest, "rollback", all=True, reason="enough")) == {"Ours": "waiting"}
    shown = rest.get(f"{SCHEDULES}{ours.pk}/").json()["handover"]
    assert (shown["to"], shown["beat_from"] > shown["since"]) == ("beat", True)
    assert [one["to"] for one in rest.get(f"{URL}handovers/").json()["results"]] == ["beat", "pg"]
    assert [one["to"] for one in rest.get(URL).json()["latest"]] == ["pg"]


def test_a_hand_over_that_waits_for_long_says_what_to_do_wherever_it_is_shown(rest, ours):
    beat_lives()
    post(rest, "promote", all=True, force=True)
    api.BeatProcess.objects.update(heartbeat_at=timezone.now() - timedelta(minutes=2))
    api.Handover.objects.update(requested_at=timezone.now() - timedelta(minutes=1))
    hints = [rest.get(f"{SCHEDULES}{ours.pk}/").json()["handover"]["hint"], rest.get(URL).json()["waiting"][0]["hint"]]
    assert [hint.startswith("no Celery Beat lives that could say what it has sent") for hint in hints] == [True, True]
    assert statuses(post(rest, "promote", all=True, beat_stopped=True, force=True)) == {"Ours": "done"}


def test_what_cannot_be_done_as_things_are_is_a_conflict_that_says_what_to_do(rest, ours):
    refused = post(rest, "promote", all=True, force=True)
    assert (refused.status_code, "expected one live process" in refused.json()["detail"]) == (409, True)
    assert "expected one live process" in rest.get(URL).json()["obstacle"]
    beat_lives()
    refused = post(rest, "ramp", percent=100, beat_stopped=True)
    assert (refused.status_code, "found host 7" in refused.json()["detail"]) == (409, True)
    assert not api.Handover.objects.exists()


def test_a_ramp_moves_whole_schedules_by_their_buckets(rest, make_schedule):
    beat_lives("gate")
    made = [make_schedule(name=f"n{number}", firer="beat") for number in range(8)]
    half = sorted(api.bucket_of(row.pk) for row in made)[4]
    below = {row.pipeline_name for row in made if api.bucket_of(row.pk) < half}
    assert statuses(rest.get(f"{URL}plan/?percent={half}&force=true")) == dict.fromkeys(below, "ready")
    assert statuses(post(rest, "ramp", percent=half, force=True)) == dict.fromkeys(below, "done")
    back = post(rest, "ramp", percent=0)
    assert statuses(back) == dict.fromkeys(below, "waiting")
    assert {one["to"] for one in back.json()["schedules"]} == {"beat"}


@pytest.mark.parametrize(
    ("action", "body", "field"),
    [
        ("promote", {}, "all"),
        ("rollback", {"all": False, "reason": "x"}, "all"),
        ("promote", {"schedules": ["x"]}, "schedules"),
        ("promote", {"schedules": "x"}, "schedules"),
        ("rollback", {"all": True, "force": True}, "force"),
        ("promote", {"percent": 101}, "percent"),
        ("ramp", {}, "percent"),
        ("ramp", {"percent": "nan"}, "percent"),
        ("ramp", {"percent": [1]}, "percent"),
        ("ramp", {"percent": 1, "all": True}, "all"),
        ("promote", {"all": True, "reason": "x\x00"}, "reason"),
        ("promote", {"all": True, "reason": "x" * 501}, "reason"),
        ("plan/?percent=x", None, "percent"),
        ("plan/?percent=-1", None, "percent"),
        ("plan/?force=1", None, "force"),
        ("plan/?schedule=x", None, "schedule"),
        ("plan/?schedules=x", None, "schedules"),
        ("?org=x", None, "org"),
        ("handovers/?state=x", None, "state"),
        ("handovers/?schedule=x", None, "schedule"),
    ],
)
def test_what_is_no_choice_is_refused_by_name(rest, ours, action, body, field):
    answer = rest.get(URL + action) if body is None else post(rest, action, **body)
    assert (answer.status_code, list(answer.json())) == (400, [field])
    assert answer.json()[field][0].startswith("expected ")


def test_other_organizations_schedules_are_neither_found_nor_included(ann, rest, ours, theirs):
    beat_lives("gate")
    handover(theirs)
    assert rest.get(URL).json()["fired_by_beat"] == 2
    status = ann.get(URL).json()
    assert (status["fired_by_beat"], status["latest"]) == (1, [])
    for action in ("promote", "rollback"):
        assert post(ann, action, schedules=[str(theirs.pk)]).status_code == 404
        assert post(ann, action, organization="acme").status_code == 403
        assert set(statuses(post(ann, action, all=True))) <= {"Ours"}
    assert post(ann, "ramp", percent=100, organization="acme").status_code == 403
    assert ann.get(f"{URL}?organization=acme").status_code == 403
    assert ann.get(f"{URL}handovers/").json()["results"] == []
    assert ann.get(f"{URL}handovers/{api.Handover.objects.get().pk}/").status_code == 404
    assert statuses(rest.get(f"{URL}plan/?organization=acme")) == {"Theirs": "refused"}
    assert rest.get(f"{URL}plan/?organization=acme&schedule={ours.pk}").status_code == 404
    assert statuses(post(rest, "promote", organization="acme", force=True)) == {"Theirs": "done"}
    ours.refresh_from_db()
    assert ours.firer == "beat"


def test_each_action_asks_for_its_permission_and_passing_over_for_one_more(make_user, as_user, ours, default):
    beat_lives("gate")
    looks = as_user(make_user("looks", default, permissions=["scheduler.view_pgperiodicschedule"]))
    for path in ("", "plan/", "handovers/"):
        assert looks.get(URL + path).status_code == 403
    for action, body in (("promote", {"all": True}), ("rollback", {"all": True}), ("ramp", {"percent": 1})):
        assert post(looks, action, **body).status_code == 403
    changes = as_user(make_user("changes", default, permissions=[*MAY, "scheduler.view_schedulerun"]))
    assert {changes.get(URL + path).status_code for path in ("", "plan/", "handovers/")} == {200}
    for body in ({"force": True}, {"beat_stopped": True}):
        assert post(changes, "promote", all=True, **body).status_code == 403
        assert post(changes, "ramp", percent=100, **body).status_code == 403
    assert statuses(post(changes, "promote", all=True)) == {"Ours": "refused"}
    passes = as_user(make_user("passes", default, permissions=[*MAY, "scheduler.change_handover"]))
    assert statuses(post(passes, "promote", all=True, force=True)) == {"Ours": "done"}


def test_hand_overs_are_listed_latest_first_page_by_page_and_outlive_the_schedule(rest, ours, make_schedule):
    now = timezone.now()
    made = [handover(ours, requested_at=now - timedelta(minutes=number)) for number in range(4)]
    other = handover(make_schedule(), state="waiting", ended_at=None, requested_at=now - timedelta(days=1))
    api.delete_schedule(ours.pk)
    found, url = [], f"{URL}handovers/?page_size=2"
    while url:
        page = rest.get(url).json()
        found, url = found + page["results"], page["next"]
    assert [one["id"] for one in found] == [one.pk for one in [*made, other]]
    assert found[-1] == handover_fields(other)
    assert rest.get(f"{URL}handovers/{other.pk}/").json() == found[-1]
    assert [one["id"] for one in rest.get(f"{URL}handovers/?state=waiting&to=pg").json()["results"]] == [other.pk]
    assert len(rest.get(f"{URL}handovers/?schedule={ours.pk}").json()["results"]) == 4
    assert rest.get(f"{URL}handovers/?schedule={uuid.uuid4()}").json()["results"] == []


def test_a_list_of_schedules_under_way_costs_the_same_queries_however_many(
    rest, make_schedule, django_assert_max_num_queries
):
    beat_lives()
    for number in range(10):
        make_schedule(name=f"n{number}", firer="beat")
    post(rest, "promote", all=True, force=True)
    with django_assert_max_num_queries(6):
        results = rest.get(SCHEDULES).json()["results"]
    assert [one["handover"]["to"] for one in results] == ["pg"] * 10
