"""/api/v1/schedules/: what a caller can do, and what is refused with which words."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta

import pytest
from django_celery_beat.models import PeriodicTask

from pg_queue import api as queue
from scheduler import api

pytestmark = pytest.mark.django_db
URL = "/api/v1/schedules/"
BODY = {"name": "Nightly", "task": "echo", "expression": "0 3 * * *"}
LONG = " ".join([*(",".join(map(str, numbers)) for numbers in (range(60), range(24), range(1, 32))), "*", "*"])
"""Of more than 300 characters."""

BESIDE_BEAT = pytest.mark.postgresql("beside SQLite Celery Beat fires nothing")


def test_a_schedule_shows_every_field(rest):
    created = rest.post(URL, {**BODY, "args": [1], "kwargs": {"a": None}, "timezone": "Europe/Berlin"}, format="json")
    assert created.status_code == 201, created.data
    shown = rest.get(f"{URL}{created.data['id']}/").json()
    assert shown["next_run_at"] is not None
    assert {k: v for k, v in shown.items() if k not in {"id", "next_run_at", "created_at", "updated_at"}} == {
        "name": "Nightly",
        "organization": "default",
        "workflow_id": None,
        "task": "echo",
        "args": [1],
        "kwargs": {"a": None},
        "kind": "crontab",
        "expression": "0 3 * * *",
        "timezone": "Europe/Berlin",
        "dialect": "unix",
        "state": "active",
        "enabled": True,
        "firer": "pg",
        "queue": "default",
        "priority": 5,
        "max_attempts": None,
        "starts_at": None,
        "ends_at": None,
        "grace_seconds": None,
        "catch_up": "latest",
        "overlap": "allow",
        "jitter_seconds": 0,
        "run_limit": None,
        "run_count": 0,
        "pause_after_failures": None,
        "failures_in_a_row": 0,
        "hold": None,
        "handover": None,
        "paused_until": None,
        "pause_note": "",
        "paused_at": None,
        "last_run_at": None,
        "quarantined_at": None,
        "quarantine_error": "",
    }


def test_an_expression_of_the_length_that_is_stored_can_be_written_and_written_back(rest):
    created = rest.post(URL, {**BODY, "expression": LONG}, format="json")
    assert (created.status_code, created.data["expression"]) == (201, LONG)
    url = f"{URL}{created.data['id']}/"
    assert rest.put(url, rest.get(url).json(), format="json").status_code == 200
    refused = rest.patch(url, {"expression": "1," * 500 + "1 * * * *"}, format="json")
    assert refused.json()["expression"][0].startswith("expected a string of 1 to 1000 characters, got: ")


def test_an_interval_is_an_iso_duration(rest):
    created = rest.post(URL, {**BODY, "kind": "interval", "expression": "PT5S"}, format="json").json()
    upcoming = rest.get(f"{URL}{created['id']}/next/?count=3").json()["results"]
    instants = [datetime.fromisoformat(text) for text in upcoming]
    assert [b - a for a, b in itertools.pairwise(instants)] == [timedelta(seconds=5)] * 2


@pytest.mark.parametrize(
    ("change", "field", "words"),
    [
        ({"expression": "61 * * * *"}, "expression", "61 * * * *"),
        ({"expression": "0 0 30 2 *"}, "expression", "0 0 30 2 *"),
        ({"expression": "PT5S"}, "expression", "PT5S"),
        ({"kind": "interval", "expression": "5 seconds"}, "expression", "5 seconds"),
        ({"kind": "lunar"}, "kind", "crontab, interval, clocked, solar"),
        ({"dialect": "quartz"}, "dialect", "unix, celery"),
        ({"timezone": "Mars/Olympus"}, "timezone", "Mars/Olympus"),
        ({"task": "os.system"}, "task", "registered task"),
        ({"task": "ecko"}, "task", "echo"),
        ({"args": {"a": 1}}, "args", "a list"),
        ({"args": ["x" * 262_144]}, "args", "262144"),
        ({"args": ["a\x00b"]}, "args", "NUL"),
        ({"kwargs": [1]}, "kwargs", "an object"),
        ({"priority": 11}, "priority", "from 1 to 10"),
        ({"priority": "high"}, "priority", "from 1 to 10"),
        ({"name": ""}, "name", "1 to 255"),
        ({"name": "x" * 256}, "name", "1 to 255"),
        ({"name": None}, "name", "1 to 255"),
        ({"enabled": "perhaps"}, "enabled", "true or false"),
        ({"firer": "cron"}, "firer", "pg"),
        ({"starts_at": "2030-01-01T00:00:00"}, "starts_at", "offset"),
        ({"starts_at": "tomorrow"}, "starts_at", "offset"),
        ({"starts_at": "2030-01-02T00:00:00Z", "ends_at": "2030-01-01T00:00:00Z"}, "ends_at", "after starts_at"),
        ({"queue": "a b"}, "queue", "letters"),
        ({"grace_seconds": 0}, "grace_seconds", "from 1"),
        ({"catch_up": "some"}, "catch_up", "none, latest, all"),
        ({"overlap": "some"}, "overlap", "allow, skip, queue"),
        ({"jitter_seconds": -1}, "jitter_seconds", "from 0"),
        ({"run_limit": 0}, "run_limit", "from 1"),
        ({"pause_after_failures": 0}, "pause_after_failures", "from 1"),
        ({"paused_until": "2030-01-01T00:00:00Z"}, "paused_until", "enabled false"),
        ({"max_attempts": 0}, "max_attempts", "from 1 to 32767"),
        ({"naem": "x"}, "naem", "fields among name"),
    ],
)
def test_bad_input_is_refused_by_field_with_what_was_expected_and_got(rest, change, field, words):
    answer = rest.post(URL, {**BODY, **change}, format="json")
    assert answer.status_code == 400, answer.data
    assert list(answer.json()) == [field]
    (text,) = answer.json()[field]
    assert text.startswith("expected ")
    assert ", got: " in text
    assert words.lower() in text.lower()
    assert not api.PgPeriodicSchedule.objects.exists()


def test_a_missing_field_is_named(rest):
    answer = rest.post(URL, {"name": "x"}, format="json").json()
    assert set(answer) == {"task", "expression"}
    assert answer["task"] == ["expected a string of 1 to 255 characters, got nothing"]


def test_a_body_that_is_not_json_is_refused(rest):
    answer = rest.post(URL, "{", content_type="application/json")
    assert answer.status_code == 400
    assert rest.post(URL, "[]", content_type="application/json").status_code == 400
    assert rest.post(URL, '{"name": NaN}', content_type="application/json").status_code == 400


def test_a_change_changes_only_what_it_names(rest, make_schedule):
    schedule = make_schedule(args=[1])
    changed = rest.patch(f"{URL}{schedule.pk}/", {"name": "Other"}, format="json").json()
    assert (changed["name"], changed["args"], changed["next_run_at"]) == (
        "Other",
        [1],
        schedule.next_run_at.isoformat().replace("+00:00", "Z"),
    )


def test_what_was_read_can_be_written_back_and_engine_owned_fields_stay(rest, make_schedule):
    schedule = make_schedule()
    body = rest.get(f"{URL}{schedule.pk}/").json()
    body |= {"next_run_at": "2099-01-01T00:00:00Z", "last_run_at": "2099-01-01T00:00:00Z", "id": "x"}
    answer = rest.put(f"{URL}{schedule.pk}/", body, format="json")
    assert answer.status_code == 200, answer.data
    row = api.get_schedule(schedule.pk)
    assert (row.next_run_at, row.last_run_at) == (schedule.next_run_at, None)


@pytest.mark.parametrize("change", [{"organization": "acme"}, {"firer": "beat"}])
def test_organization_and_firer_are_fixed(rest, make_schedule, acme, change):
    answer = rest.patch(f"{URL}{make_schedule().pk}/", change, format="json")
    assert answer.status_code == 400
    assert list(answer.json()) == list(change)


@pytest.mark.parametrize(
    ("field", "value"), [("task", "noop"), ("args", [1]), ("kwargs", {}), ("kwargs", {"pipeline_id": "x"})]
)
def test_what_a_pipelines_schedule_runs_is_changed_at_the_pipeline(rest, make_pipeline, field, value):
    url = f"{URL}{make_pipeline().pk}/"
    answer = rest.patch(url, {field: value, "name": "Other"}, format="json")
    assert answer.status_code == 400
    ((name, (text,)),) = answer.json().items()
    assert name == field
    assert "edit the pipeline, got: " in text
    assert rest.get(url).json()["name"] == "Load"


def test_a_pipelines_schedule_can_be_written_back_changed_otherwise_and_brought_back_to_its_pipeline(
    rest, make_pipeline
):
    pipeline = make_pipeline()
    url = f"{URL}{pipeline.pk}/"
    body = {**rest.get(url).json(), "queue": "slow"}
    assert rest.put(url, body, format="json").json()["queue"] == "slow"
    api.update_schedule(pipeline.pk, task="noop", kwargs={})
    parted = rest.patch(url, {"priority": 9}, format="json")
    assert parted.status_code == 200, "what it does not change is not its affair"
    mended = rest.patch(url, {"task": body["task"], "kwargs": body["kwargs"]}, format="json")
    assert (mended.data["task"], mended.data["kwargs"]) == ("pipelines.run", {"pipeline_id": str(pipeline.pk)})


def test_pause_with_a_reason_and_resume(rest, make_schedule):
    schedule = make_schedule()
    paused = rest.post(f"{URL}{schedule.pk}/pause/", {"reason": "holiday"}, format="json")
    assert (paused.status_code, paused.data["enabled"], paused.data["pause_note"]) == (200, False, "holiday")
    assert paused.data["state"] == "paused"
    assert rest.get(f"{URL}{schedule.pk}/next/").json()["results"] == []
    resumed = rest.post(f"{URL}{schedule.pk}/resume/").json()
    assert (resumed["enabled"], resumed["pause_note"], resumed["paused_at"]) == (True, "", None)
    assert rest.post(f"{URL}{schedule.pk}/pause/").status_code == 200
    assert rest.post(f"{URL}{schedule.pk}/pause/", {"why": "x"}, format="json").json().keys() == {"why"}


def test_enabled_false_pauses(rest, make_schedule):
    schedule = make_schedule()
    body = {"enabled": False, "pause_note": "later"}
    assert rest.patch(f"{URL}{schedule.pk}/", body, format="json").data["enabled"] is False
    assert api.get_schedule(schedule.pk).pause_note == "later"


def test_run_now_enqueues_and_returns_the_run(rest, make_schedule):
    schedule = make_schedule(args=["hello"])
    run = rest.post(f"{URL}{schedule.pk}/run/")
    assert run.status_code == 201
    assert (run.data["origin"], run.data["state"], run.data["schedule"]) == ("manual", "fired", str(schedule.pk))
    message = rest.get(f"/api/v1/messages/{run.data['id']}/").json()
    assert (message["task"], message["args"], message["state"]) == ("echo", ["hello"], "waiting")
    assert [r["id"] for r in rest.get(f"{URL}{schedule.pk}/runs/").json()["results"]] == [run.data["id"]]


def test_delete(rest, make_schedule):
    schedule = make_schedule()
    assert rest.delete(f"{URL}{schedule.pk}/").status_code == 204
    assert rest.get(f"{URL}{schedule.pk}/").status_code == 404
    assert rest.delete(f"{URL}{schedule.pk}/").status_code == 404


def test_next_gives_ten_by_default_in_order(rest, make_schedule):
    schedule = make_schedule(expression="@hourly")
    answer = rest.get(f"{URL}{schedule.pk}/next/").json()
    assert len(answer["results"]) == 10
    assert answer["results"] == sorted(answer["results"])
    assert len(rest.get(f"{URL}{schedule.pk}/next/?count=1000").json()["results"]) == 1000


@pytest.mark.parametrize("count", ["0", "1001", "-1", "ten", "", "9" * 30])
def test_a_count_out_of_bounds_is_refused(rest, make_schedule, count):
    answer = rest.get(f"{URL}{make_schedule().pk}/next/?count={count}")
    assert answer.status_code == 400
    assert answer.json()["count"][0].startswith("expected a whole number from 1 to 1000, got: ")


@pytest.mark.parametrize("path", ["not-a-uuid/", "00000000-0000-0000-0000-000000000000/"])
def test_an_unknown_id_is_not_found(rest, path):
    for request in (rest.get, rest.delete):
        assert request(URL + path).status_code == 404
    assert rest.post(f"{URL}{path}run/").status_code == 404


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("name=NIGHT", {"Nightly"}),
        ("task=noop", {"Other"}),
        ("kind=interval", {"Every"}),
        ("enabled=false", {"Other"}),
        ("enabled=true", {"Nightly", "Every"}),
        ("state=active", {"Nightly", "Every"}),
        ("state=paused", {"Other"}),
        ("state=ended", set()),
        ("queue=slow", {"Every"}),
        ("firer=pg", {"Nightly", "Other", "Every"}),
        ("firer=beat", set()),
    ],
)
def test_filters(rest, make_schedule, query, expected):
    make_schedule()
    make_schedule(name="Other", task="noop", enabled=False)
    make_schedule(name="Every", kind="interval", expression="PT1H", queue="slow")
    assert {row["name"] for row in rest.get(f"{URL}?{query}").json()["results"]} == expected


@pytest.mark.parametrize(
    "query", ["enabled=maybe", "state=held", "enabld=true", "firer=cron", "page_size=0", "cursor=!!", "cursor=W10"]
)
def test_a_wrong_filter_is_refused_rather_than_ignored(rest, query):
    answer = rest.get(f"{URL}?{query}")
    assert answer.status_code == 400
    assert list(answer.json()) == [query.split("=")[0]]


def test_pages_go_forth_and_back_and_meet_every_row_once(rest, make_schedule):
    made = {str(make_schedule(name=f"n{n}").pk) for n in range(7)}
    pages, url = [], f"{URL}?page_size=3"
    while url:
        page = rest.get(url).json()
        pages.append([row["id"] for row in page["results"]])
        url, previous = page["next"], page["previous"]
    assert [len(page) for page in pages] == [3, 3, 1]
    assert {row for page in pages for row in page} == made
    back = rest.get(previous).json()
    assert [row["id"] for row in back["results"]] == pages[1]
    first = rest.get(back["previous"]).json()
    assert [row["id"] for row in first["results"]] == pages[0]
    assert first["previous"] is None
    assert [row["id"] for row in rest.get(first["next"]).json()["results"]] == pages[1]


def test_a_list_costs_the_same_queries_however_many_rows(rest, make_schedule, django_assert_max_num_queries):
    for n in range(20):
        make_schedule(name=f"n{n}")
    with django_assert_max_num_queries(3):
        rest.get(URL)


@BESIDE_BEAT
def test_a_schedule_fired_by_beat_is_created_and_shown(rest):
    created = rest.post(URL, {**BODY, "firer": "beat"}, format="json")
    assert (created.status_code, created.data["firer"]) == (201, "beat")


def test_the_payload_reaches_the_queue_as_it_was_given(rest):
    body = {**BODY, "args": [{"ü": [1.5, None, True]}], "kwargs": {"k": "v"}, "queue": "slow", "priority": 9}
    created = rest.post(URL, body, format="json").json()
    run = rest.post(f"{URL}{created['id']}/run/").json()
    (message,) = queue.get_messages([api.ScheduleRun.objects.get(pk=run["id"]).pk]).values()
    assert (message.args, message.kwargs, message.queue, message.priority) == (
        [{"ü": [1.5, None, True]}],
        {"k": "v"},
        "slow",
        9,
    )
    assert message.run_after <= datetime.now(UTC)


@pytest.mark.parametrize("firer", ["pg", pytest.param("beat", marks=BESIDE_BEAT)])
def test_a_pipelines_schedule_cannot_take_the_name_of_another_pipeline(rest, make_pipeline, settings, firer):
    settings.SCHEDULER = {"DEFAULT_FIRER": firer}
    make_pipeline(name="Taken")
    ours = make_pipeline(name="Ours")
    answer = rest.patch(f"{URL}{ours.pk}/", {"name": "Taken"}, format="json")
    assert answer.status_code == 400
    assert answer.json() == {"name": ["expected a name that no other pipeline of the organization has, got: 'Taken'"]}
    assert not api.mirror_failures().exists()
    assert rest.patch(f"{URL}{ours.pk}/", {"name": "Free"}, format="json").status_code == 200


@BESIDE_BEAT
def test_a_change_is_compared_with_what_beat_does_and_not_with_a_mirror_that_missed_it(rest):
    schedule = api.create_schedule(**BODY, firer="beat")
    PeriodicTask.objects.filter(name=str(schedule.pk)).update(enabled=False, args="[1]")
    changed = rest.patch(f"{URL}{schedule.pk}/", {"enabled": True, "args": []}, format="json")
    assert (changed.status_code, changed.json()["enabled"], changed.json()["args"]) == (200, True, [])
    task = PeriodicTask.objects.get(name=str(schedule.pk))
    assert (task.enabled, task.args) == (True, "[]")


def test_a_pause_may_end_by_itself(rest):
    made = rest.post(URL, BODY, format="json").json()
    refused = rest.post(f"{URL}{made['id']}/pause/", {"until": "2001-01-01T00:00:00Z"}, format="json")
    assert (refused.status_code, list(refused.json())) == (400, ["paused_until"])
    paused = rest.post(f"{URL}{made['id']}/pause/", {"until": "2900-01-01T00:00:00Z"}, format="json").json()
    assert (paused["enabled"], paused["paused_until"]) == (False, "2900-01-01T00:00:00Z")


def test_policies_are_given_and_changed(rest):
    policies = {"catch_up": "all", "overlap": "skip", "jitter_seconds": 30, "run_limit": 3, "pause_after_failures": 5}
    made = rest.post(URL, {**BODY, **policies}, format="json").json()
    assert {name: made[name] for name in policies} == policies
    changed = rest.patch(f"{URL}{made['id']}/", {"overlap": "queue", "run_limit": None}, format="json").json()
    assert (changed["overlap"], changed["run_limit"], changed["catch_up"]) == ("queue", None, "all")


@BESIDE_BEAT
def test_the_next_run_of_a_schedule_that_beat_fires_lies_ahead(rest):
    schedule = api.create_schedule(**BODY, firer="beat")
    api.PgPeriodicSchedule.objects.filter(pk=schedule.pk).update(next_run_at=datetime(2020, 1, 1, 3, tzinfo=UTC))
    shown = rest.get(f"{URL}{schedule.pk}/").json()["next_run_at"]
    assert shown.endswith("T03:00:00Z")
    assert datetime.fromisoformat(shown) > datetime.now(UTC) - timedelta(minutes=1)


def test_a_change_by_rest_is_noted_as_its_users(rest):
    made = rest.post(URL, BODY, format="json").json()
    [note] = api.last_changes(made["id"], 5)
    assert (note.action, note.actor) == ("create", rest.handler._force_user.get_username())


def test_an_occurrence_is_explained(rest, make_schedule):
    schedule = make_schedule()
    told = rest.get(f"{URL}{schedule.pk}/explain/", {"at": "2020-01-01T00:00:00Z"})
    assert (told.status_code, told.json()["state"]) == (200, "not_expected")
    assert "created later" in told.json()["reason"]
    for at in ("", "yesterday", "2020-01-01T00:00:00"):
        refused = rest.get(f"{URL}{schedule.pk}/explain/", {"at": at})
        assert (refused.status_code, list(refused.json())) == (400, ["at"])
