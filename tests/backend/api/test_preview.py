"""What lies ahead of a schedule, or of an expression that nobody has stored, beside what Celery Beat would do."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.django_db

SPRING = {"expression": "30 2 * * *", "timezone": "Europe/Berlin"}


def test_an_expression_is_previewed_before_anything_is_stored(rest):
    answer = rest.get("/api/v1/preview/", {**SPRING, "count": 2})
    assert answer.status_code == 200
    body = answer.json()
    assert (body["timezone"], body["note"], len(body["results"])) == ("Europe/Berlin", "", 2)
    assert all(one["pg"] == one["beat"] and not one["differs"] for one in body["results"])
    rules = {one["rule"] for change in body["clock_changes"] for one in change["results"] if one["differs"]}
    assert "spring_gap" in rules
    assert {change["offset_before"] for change in body["clock_changes"]} == {"+01:00", "+02:00"}


def test_a_stored_schedule_and_a_pipelines_are_previewed(rest, make_schedule, make_pipeline):
    made = make_schedule(**SPRING)
    body = rest.get(f"/api/v1/schedules/{made.pk}/preview/").json()
    assert len(body["results"]) == 10
    assert body["results"][0]["pg"] == made.next_run_at.isoformat().replace("+00:00", "Z")
    assert len(body["clock_changes"]) == 2
    answer = rest.get(f"/api/v1/pipelines/{make_pipeline().pk}/preview/", {"count": 3})
    assert len(answer.json()["results"]) == 3


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"expression": "61 * * * *"}, "expression"),
        ({}, "expression"),
        ({**SPRING, "kind": "cron"}, "kind"),
        ({**SPRING, "timezone": "Nowhere"}, "timezone"),
        ({**SPRING, "dialect": "quartz"}, "dialect"),
        ({**SPRING, "count": "0"}, "count"),
        ({**SPRING, "expresion": "x"}, "expresion"),
        ({"expression": "\x00"}, "expression"),
    ],
)
def test_nonsense_is_refused_by_its_parameter(rest, query, field):
    answer = rest.get("/api/v1/preview/", query)
    assert answer.status_code == 400
    assert list(answer.json()) == [field]
    assert answer.json()[field][0].startswith("expected ")


def test_it_asks_for_the_permission_to_see_schedules(make_user, as_user, acme, default, make_schedule):
    assert as_user(make_user("ann", acme, permissions=[])).get("/api/v1/preview/", SPRING).status_code == 403
    bob = as_user(make_user("bob", acme, permissions=["scheduler.view_pgperiodicschedule"]))
    assert bob.get("/api/v1/preview/", SPRING).status_code == 200
    theirs, ours = make_schedule(), make_schedule(organization_id="acme")
    assert bob.get(f"/api/v1/schedules/{ours.pk}/preview/").status_code == 200
    assert bob.get(f"/api/v1/schedules/{theirs.pk}/preview/").status_code == 404


def crowd(make_schedule, count=6, **fields):
    return [make_schedule(**{"expression": "30 4 * * *", **fields}) for _ in range(count)]


def test_a_preview_warns_of_a_crowded_minute_and_suggests_a_jitter(rest, make_schedule, settings):
    settings.SCHEDULER = {"HERD_WARNING": 5}
    rows = crowd(make_schedule)
    herd = rest.get("/api/v1/preview/", {"expression": "30 4 * * *", "count": 1}).json()["herd"]
    assert (herd["others"], herd["jitter_seconds"]) == (6, 120)
    assert herd["at"].endswith("T04:30:00Z")
    assert "A jitter of 120 seconds" in herd["warning"]
    for harmless in ({"expression": "31 4 * * *"}, {"expression": "30 4 * * *", "jitter_seconds": 300}):
        assert rest.get("/api/v1/preview/", harmless).json()["herd"] is None
    itself = {"expression": "30 4 * * *", "schedule": rows[0].pk}
    assert rest.get("/api/v1/preview/", itself).json()["herd"] is None
    assert rest.get(f"/api/v1/schedules/{rows[0].pk}/preview/").json()["herd"] is None
    crowd(make_schedule, 1)
    assert rest.get(f"/api/v1/schedules/{rows[0].pk}/preview/").json()["herd"]["others"] == 6


def test_a_crowd_is_of_the_organizations_that_the_caller_may_see(
    make_user, as_user, acme, default, make_schedule, settings
):
    settings.SCHEDULER = {"HERD_WARNING": 5}
    crowd(make_schedule)
    ann = as_user(make_user("ann", acme))
    assert ann.get("/api/v1/preview/", {"expression": "30 4 * * *"}).json()["herd"] is None
    assert ann.get("/api/v1/forecast/").json()["schedules"] == 0
    crowd(make_schedule, organization_id="acme")
    assert ann.get("/api/v1/preview/", {"expression": "30 4 * * *"}).json()["herd"]["others"] == 6
    assert ann.get("/api/v1/forecast/").json()["schedules"] == 6


@pytest.mark.parametrize(("name", "value"), [("jitter_seconds", "x"), ("schedule", "x")])
def test_nonsense_beside_an_expression_is_refused(rest, name, value):
    assert list(rest.get("/api/v1/preview/", {**SPRING, name: value}).json()) == [name]


def test_the_forecast_is_by_minute_and_names_the_busiest(rest, acme, make_schedule):
    crowd(make_schedule, 3)
    crowd(make_schedule, 1, expression="* * * * *", organization_id="acme")
    body = rest.get("/api/v1/forecast/", {"hours": 25}).json()
    assert (len(body["fires"]), len(body["starts"]), body["schedules"], body["left_out"]) == (1500, 1500, 4, 0)
    busiest = body["busiest"][0]
    assert busiest["at"].endswith("T04:30:00Z")
    assert (busiest["fires"], busiest["starts"]) == (4, 4)
    assert busiest["largest"][0] == {"expression": "30 4 * * *", "timezone": "UTC", "schedules": 3}
    week = rest.get("/api/v1/forecast/", {"hours": 168, "top": 0, "organization": "acme"}).json()
    assert (len(week["fires"]), week["busiest"], week["schedules"]) == (10080, [], 1)


@pytest.mark.parametrize("query", [{"hours": "0"}, {"hours": "169"}, {"top": "-1"}, {"days": "1"}])
def test_a_forecast_of_nonsense_is_refused(rest, query):
    answer = rest.get("/api/v1/forecast/", query)
    assert (answer.status_code, list(answer.json())) == (400, list(query))


def test_a_forecast_asks_for_the_permission_and_for_ones_own_organization(make_user, as_user, acme, default):
    assert as_user(make_user("ann", acme, permissions=[])).get("/api/v1/forecast/").status_code == 403
    bob = as_user(make_user("bob", acme, permissions=["scheduler.view_pgperiodicschedule"]))
    assert bob.get("/api/v1/forecast/", {"organization": "default"}).status_code == 403
    assert bob.get("/api/v1/forecast/", {"organization": "acme"}).status_code == 200
