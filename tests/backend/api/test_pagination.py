"""A cursor that no link of ours holds is refused by name, on every list; those of our links lead through every row."""

from __future__ import annotations

import json
import uuid
from base64 import urlsafe_b64encode

import pytest
from django.db import transaction

from scheduler import api

pytestmark = pytest.mark.django_db
ID, INSTANT = str(uuid.uuid4()), "2026-01-01T00:00:00+00:00"
LISTS = ["schedules/", "runs/", "pipelines/", "schedules/{schedule}/runs/", "pipelines/{pipeline}/executions/"]
UNREADABLE = [
    "[" * 150,
    "[" * 1_500,
    '{"a":' * 1_500,
    "9" * 5_000,
    "NaN",
    "Infinity",
    "null",
    "{}",
    "[]",
    '[1, "' + ID + '"]',
    '[true, "\\ud800"]',
    b"\xff\xfe",
    b'[true, "\xff"]',
    b"\x00",
]
VALUES = [
    "",
    "x",
    "9" * 150,
    "infinity",
    "-infinity",
    "NaN",
    "now",
    "\0",
    "\ud800",
    "2026-01-01",
    "2026-02-30T00:00:00+00:00",
    "2026-01-01T00:00:00",
    "2026-01-01T00:00:00+23:59",
    "0001-01-01T00:00:00+14:00",
    "9999-12-31T23:59:59-14:00",
    "10000-01-01T00:00:00+00:00",
    f"urn:uuid:{ID}",
    ID.upper(),
]


def encoded(plain: str | bytes) -> str:
    return urlsafe_b64encode(plain if isinstance(plain, bytes) else plain.encode()).decode().rstrip("=")


def cursors() -> list[str]:
    crafted = [[way, *values] for way in (True, False) for value in VALUES for values in _filled(value)]
    return [
        *(encoded(plain) for plain in UNREADABLE),
        *(encoded(json.dumps(parts)) for parts in crafted),
        *("!!", "%", "=", "A", "é", "日本", "a\0b", "A" * 100_000),
    ]


def _filled(value: str) -> list[list[object]]:
    return [[value], [value, ID], [INSTANT, value], [value, value], [INSTANT, ID, value], [None, ID], [{}, []]]


@pytest.mark.parametrize("path", LISTS)
def test_a_crafted_cursor_is_refused_by_name(rest, make_schedule, make_pipeline, path):
    rest.raise_request_exception = False
    url = f"/api/v1/{path.format(schedule=make_schedule().pk, pipeline=make_pipeline().pk)}"
    for cursor in cursors():
        with transaction.atomic():  # a statement that PostgreSQL refuses spoils the test's own transaction
            answer = rest.get(url, {"cursor": cursor})
            transaction.set_rollback(True)
        assert answer.status_code == 400, (cursor[:80], answer.content)
        assert answer.json()["cursor"][0].startswith("expected the cursor of a `next` or `previous` link, got: ")
        assert len(answer.content) < 300, "a long one is not sent back whole"


@pytest.mark.parametrize("first", ["0001-01-01T00:00:00+00:00", "9999-12-31T23:59:59.999999+00:00", INSTANT])
@pytest.mark.parametrize("path", ["runs/", "pipelines/"])
def test_an_instant_at_the_edge_of_time_is_a_place_like_any_other(rest, path, first):
    cursor = encoded(json.dumps([True, first, ID]))
    assert rest.get(f"/api/v1/{path}", {"cursor": cursor}).status_code == 200


@pytest.mark.parametrize("path", ["runs/", "pipelines/", "schedules/"])
def test_the_links_lead_through_every_row_and_back(rest, make_schedule, make_pipeline, path):
    for number in range(5):
        api.run_schedule(make_schedule(name=f"s{number}").pk)
        make_pipeline(name=f"p{number}")
    whole = [row["id"] for row in rest.get(f"/api/v1/{path}").json()["results"]]
    pages = [rest.get(f"/api/v1/{path}?page_size=2").json()]
    while pages[-1]["next"]:
        pages.append(rest.get(pages[-1]["next"]).json())
    assert [row["id"] for page in pages for row in page["results"]] == whole
    assert rest.get(pages[-1]["previous"]).json()["results"] == pages[-2]["results"]


@pytest.mark.parametrize("name", ["scheduled_for_after", "scheduled_for_before"])
@pytest.mark.parametrize(
    "instant", ["2026-01-01T00:00:00+23:59", "2026-01-01T00:00:00-16:00", "2026-01-01T00:00:00+14:00"]
)
def test_an_instant_of_an_offset_that_postgresql_does_not_know_is_still_an_instant(rest, name, instant):
    assert rest.get("/api/v1/runs/", {name: instant}).status_code == 200


@pytest.mark.parametrize("instant", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "infinity"])
def test_an_instant_outside_the_calendar_is_refused_by_name(rest, instant):
    answer = rest.get("/api/v1/runs/", {"scheduled_for_after": instant})
    assert answer.status_code == 400, answer.content
    assert answer.json()["scheduled_for_after"][0].startswith("expected an ISO 8601 instant")
