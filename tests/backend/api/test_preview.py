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
