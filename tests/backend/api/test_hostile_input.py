"""Whatever a caller sends, the answer is theirs to read: a refusal with its field, never a crash."""

from __future__ import annotations

import json

import pytest

pytestmark = pytest.mark.django_db
URL = "/api/v1/schedules/"
BODY = {"name": "Nightly", "task": "echo", "expression": "0 3 * * *"}
PIPELINE = {"name": "p", "expression": "0 3 * * *"}
SURROGATE = "\ud800"


@pytest.fixture
def rest(rest):
    """A client that sees a crash as its callers do: as status 500."""
    rest.raise_request_exception = False
    return rest


def post(client, body: str, url: str = URL):
    return client.post(url, body, content_type="application/json")


@pytest.mark.parametrize("depth", [1_000, 100_000])
@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}")])
def test_a_body_nested_beyond_the_parser_is_refused(rest, depth, opening, closing):
    nested = opening * depth + "1" + closing * depth
    for body in (nested, f'{{"name": "x", "task": "echo", "expression": "@daily", "args": [{nested}]}}'):
        answer = post(rest, body)
        assert answer.status_code == 400, answer.content
        assert "levels" in answer.content.decode()


def test_arguments_nested_deeper_than_the_queue_keeps_are_refused_by_field(rest):
    answer = post(rest, json.dumps({**BODY, "args": json.loads("[" * 300 + "]" * 300)}))
    assert answer.status_code == 400, answer.content
    assert list(answer.json()) == ["args"]


@pytest.mark.parametrize(
    ("url", "body"),
    [(URL, {**BODY, SURROGATE: 1}), ("/api/v1/pipelines/", {**PIPELINE, "steps": [{"task": "echo", SURROGATE: 1}]})],
)
def test_a_field_named_by_half_a_character_is_refused(rest, url, body):
    answer = post(rest, json.dumps(body), url)
    assert answer.status_code == 400, answer.content
    assert "\\\\ud800" in answer.content.decode()


@pytest.mark.parametrize("character", ["\0", SURROGATE])
@pytest.mark.parametrize(
    "field", ["name", "task", "expression", "timezone", "queue", "workflow_id", "pause_note", "organization"]
)
def test_text_that_postgresql_cannot_hold_is_refused_and_the_answer_says_why(rest, field, character):
    answer = post(rest, json.dumps({**BODY, field: f"a{character}"}))
    assert answer.status_code == 400, answer.content
    assert "without NUL and unpaired surrogates" in answer.json()[field][0]


@pytest.mark.parametrize("path", ["schedules", "runs", "pipelines"])
def test_an_organization_with_a_nul_is_none_that_one_may_see(rest, path):
    assert rest.get(f"/api/v1/{path}/?organization=%00").status_code == 403


def test_an_organization_that_is_a_number_is_not_the_default_one(rest):
    assert post(rest, json.dumps({**BODY, "organization": 0})).status_code == 403


def test_a_body_larger_than_the_service_reads_is_refused_as_json(rest):
    answer = post(rest, json.dumps({**BODY, "name": "x" * 3_000_000}))
    assert answer.status_code == 400, answer.content
    assert "expected a body of at most" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("path", "query", "words"),
    [
        ("schedules", "enabled=maybe", "expected one of true, false, got: 'maybe'"),
        ("schedules", "firer=x", "expected one of beat, pg, got: 'x'"),
        ("schedules", "name=%00", "expected text without NUL, got:"),
        ("runs", "state=fired&state=x", "running, succeeded"),
        ("runs", "schedule=abc", "expected a UUID, got: 'abc'"),
        ("runs", "scheduled_for_after=soon", "expected an ISO 8601 instant"),
        ("pipelines", "active=x", "expected one of true, false, got: 'x'"),
    ],
)
def test_a_bad_filter_is_refused_with_what_was_expected_and_got(rest, path, query, words):
    answer = rest.get(f"/api/v1/{path}/?{query}")
    assert answer.status_code == 400
    ((name, (text,)),) = answer.json().items()
    assert name == query.partition("=")[0]
    assert words in text
    assert ", got: " in text


def test_a_misspelt_filter_of_a_schedules_runs_is_refused(rest, make_schedule):
    answer = rest.get(f"{URL}{make_schedule().pk}/runs/?stat=failed")
    assert (answer.status_code, list(answer.json())) == (400, ["stat"])


def test_moving_a_schedule_to_another_organization_is_refused_as_fixed(rest, make_schedule):
    answer = rest.patch(f"{URL}{make_schedule().pk}/", {"organization": "acme"}, format="json")
    assert answer.json() == {"organization": ["expected 'default', which is fixed, got: 'acme'"]}


def test_a_refused_instant_is_told_as_it_is_written(rest):
    answer = post(rest, json.dumps({**BODY, "starts_at": "9000-01-01T00:00:00Z"}))
    assert answer.json()["starts_at"][0].endswith("got: 9000-01-01T00:00:00+00:00")
