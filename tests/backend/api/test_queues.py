"""/api/v1/queues/ and /dead-letters/: an operator's acts, on record; /messages/ as a status."""

from __future__ import annotations

import sys
import uuid
from datetime import timedelta
from urllib.parse import urljoin

import pytest
from django.db import OperationalError

from pg_queue import api as queue
from pg_queue.domain import Death, Failure, MessageState, Settlement, Success
from pg_queue.errors import StoreUnavailable
from pg_queue.models import DeadLetter, Operation
from pg_queue.storage import store

pytestmark = pytest.mark.django_db
QUEUES, ALL, DEAD, MESSAGES = "/api/v1/queues/", "/api/v1/all-queues/", "/api/v1/dead-letters/", "/api/v1/messages/"


def claim(*queues):
    return store().claim(queues=queues or ("default",), limit=100, lease=timedelta(seconds=60), worker="w")


def die(organization="default", **fields):
    """The id of a dead letter."""
    message_id = queue.enqueue("noop", organization_id=organization, **fields)
    failure = Failure(type="ValueError", message="no", traceback="File secret.py")
    settlements = [Settlement(message_id=c.message.id, token=c.token, outcome=Death(failure=failure)) for c in claim()]
    store().settle(settlements)
    return message_id


def recorded():
    return list(Operation.objects.order_by("pk").values_list("actor", "action", "queue", "count", "reason"))


def test_queues_show_their_figures_and_switches(rest):
    queue.enqueue("noop", queue="mail")
    rest.post(f"{QUEUES}reports/off/", {"reason": "too many"}, format="json")
    shown = rest.get(QUEUES).json()
    assert shown["all_queues"] is None
    mail, reports = shown["results"]
    assert (mail["name"], mail["is_on"], mail["waiting"], mail["switch"]) == ("mail", True, 1, None)
    assert (reports["name"], reports["is_on"], reports["switch"]["changed_by"]) == ("reports", False, "root: REST")
    assert recorded() == [("root: REST", "off", "reports", 0, "too many")]


def test_a_queue_that_is_off_is_not_claimed_from_until_it_is_on(rest):
    queue.enqueue("noop", queue="mail")
    assert rest.post(f"{QUEUES}mail/off/").json()["is_on"] is False
    assert claim("mail") == []
    assert rest.post(f"{QUEUES}mail/on/").json()["is_on"] is True
    assert len(claim("mail")) == 1


def test_all_queues_are_turned_off_and_on_at_once(rest):
    queue.enqueue("noop")
    assert rest.post(f"{ALL}off/").json()["all_queues"]["is_on"] is False
    assert rest.get(f"{QUEUES}default/").json()["is_on"] is False
    assert claim() == []
    rest.post(f"{ALL}on/")
    assert len(claim()) == 1


def test_a_queue_that_is_called_all_is_one_like_any_other(rest):
    queue.enqueue("noop", queue="all")
    queue.enqueue("noop")
    assert rest.post(f"{QUEUES}all/off/").json()["name"] == "all"
    assert len(claim("all", "default")) == 1
    assert recorded() == [("root: REST", "off", "all", 0, "")]


def test_purging_cancels_what_waits(rest):
    ids = [queue.enqueue("noop", queue="mail") for _ in range(3)]
    assert rest.post(f"{QUEUES}mail/purge/", {"reason": "by hand"}, format="json").json() == {"count": 3}
    assert {m.state for m in queue.get_messages(ids).values()} == {MessageState.CANCELLED}
    assert recorded() == [("root: REST", "purge", "mail", 3, "by hand")]


@pytest.mark.parametrize(
    "path", ["", "mail/", "mail/off/", "mail/on/", "mail/purge/", "../all-queues/off/", "../all-queues/on/"]
)
def test_queues_are_for_superusers(make_user, as_user, default, path):
    client = as_user(make_user("ann", default))
    method = client.get if path in ("", "mail/") else client.post
    assert method(urljoin(QUEUES, path)).status_code == 403
    assert recorded() == []


def test_a_reason_that_is_too_long_and_an_unknown_field_are_refused(rest):
    assert "expected" in rest.post(f"{QUEUES}mail/off/", {"reason": "x" * 2000}, format="json").json()["reason"][0]
    assert rest.post(f"{QUEUES}mail/off/", {"why": "x"}, format="json").status_code == 400
    assert recorded() == []


def test_dead_letters_are_seen_replayed_and_dropped_by_their_own_organization_only(make_user, as_user, default, acme):
    mine, other = die("acme", args=[1]), die("default")
    client = as_user(make_user("ann", acme))
    (shown,) = client.get(DEAD, {"organization": "acme"}).json()["results"]
    assert (shown["id"], shown["args"], shown["error"]["type"]) == (str(mine), [1], "ValueError")
    for refused in (client.get, client.delete):
        assert refused(f"{DEAD}{other}/").status_code == 404
    assert client.post(f"{DEAD}{other}/replay/").status_code == 404
    assert client.post(f"{DEAD}{mine}/replay/").json() == {"count": 1}
    assert queue.get_messages([mine])[mine].state is MessageState.WAITING
    assert recorded() == [("ann: REST", "replay", "", 1, "")]


def test_a_dropped_dead_letter_is_gone_and_the_act_on_record(rest):
    letter = die()
    assert rest.delete(f"{DEAD}{letter}/").status_code == 204
    assert store().replay([letter]) == set()
    assert recorded() == [("root: REST", "drop", "", 1, "")]
    assert Operation.objects.get().message_ids == [str(letter)]


def test_a_dead_letter_of_another_namespace_is_replayed_and_dropped_there(rest):
    letters = [die(), die()]
    DeadLetter.objects.filter(pk__in=letters).update(namespace="acme")
    assert rest.post(f"{DEAD}{letters[0]}/replay/").json() == {"count": 1}
    assert store().within("acme").get([letters[0]])[letters[0]].state is MessageState.WAITING
    assert rest.delete(f"{DEAD}{letters[1]}/").status_code == 204
    assert not DeadLetter.objects.exists()
    assert set(Operation.objects.values_list("namespace", flat=True)) == {"acme"}


def test_a_dead_letter_that_somebody_else_has_just_dropped_is_not_found(rest, monkeypatch):
    letter = die()
    monkeypatch.setattr(queue.Operator, "drop", lambda *_, **__: set())
    assert rest.delete(f"{DEAD}{letter}/").status_code == 404


def test_who_may_only_look_cannot_act(make_user, as_user, default):
    letter = die()
    client = as_user(make_user("ann", default, permissions=["pg_queue.view_deadletter"]))
    assert client.get(f"{DEAD}{letter}/").status_code == 200
    assert client.post(f"{DEAD}{letter}/replay/").status_code == 403
    assert client.delete(f"{DEAD}{letter}/").status_code == 403


def test_a_dead_letters_traceback_is_shown_to_staff_only(make_user, as_user, acme):
    letter = die("acme")
    for is_staff, shown in ((False, ""), (True, "File secret.py")):
        client = as_user(make_user(f"ann{is_staff}", acme, staff=is_staff))
        assert client.get(f"{DEAD}{letter}/").json()["error"]["traceback"] == shown
        assert client.get(DEAD, {"organization": "acme"}).json()["results"][0]["error"]["traceback"] == shown


class TestStatus:
    @pytest.mark.parametrize("route", [{"STORE": "far"}, {"CELERY": "backend.celery.app"}], ids=str)
    def test_one_that_is_routed_away_and_has_not_left_yet_waits(self, rest, make_user, as_user, acme, settings, route):
        settings.PG_QUEUE = {"STORES": {"default": {}, "far": {"NAMESPACE": "far"}}, "ROUTES": {"away": route}}
        message = queue.NewMessage(task="noop", args=[1], queue="away", organization_id="acme", priority=7)
        message_id = queue.dispatch(message)
        shown = rest.get(f"{MESSAGES}{message_id}/").json()
        assert (shown["id"], shown["state"], shown["args"]) == (str(message_id), "waiting", [1])
        assert (shown["queue"], shown["priority"], shown["attempts"], shown["finished_at"]) == ("away", 7, 0, None)
        assert as_user(make_user("ann", acme)).get(f"{MESSAGES}{message_id}/").status_code == 200
        assert as_user(make_user("bob")).get(f"{MESSAGES}{message_id}/").status_code == 404
        event_id = queue.publish("orders", {"task": "noop"})
        assert rest.get(f"{MESSAGES}{event_id}/").status_code == 404, "an event of the project's own is no message"

    def test_what_its_task_returned_is_shown_wherever_it_is_kept(self, rest, monkeypatch, settings):
        kept = {}

        class Elsewhere:
            def __init__(self, conf):
                pass

            def get(self, ids):
                return {one: kept[one] for one in ids if one in kept}

        monkeypatch.setattr(sys.modules[__name__], "Elsewhere", Elsewhere, raising=False)
        settings.PG_QUEUE = {"RESULTS": {"BACKEND": f"{__name__}.Elsewhere"}}
        message_id = queue.enqueue("noop")
        (held,) = claim()
        store().settle([Settlement(message_id=message_id, token=held.token, outcome=Success())])
        assert rest.get(f"{MESSAGES}{message_id}/").json()["result"] is None
        kept[message_id] = queue.Result(
            message_id=message_id, state=MessageState.SUCCEEDED, attempts=1, value={"rows": 3}
        )
        assert rest.get(f"{MESSAGES}{message_id}/").json()["result"] == {"rows": 3}

    def test_a_status_has_state_times_and_result(self, rest):
        message_id = queue.enqueue("noop")
        assert rest.get(f"{MESSAGES}{message_id}/").json()["state"] == "waiting"
        (held,) = claim()
        assert rest.get(f"{MESSAGES}{message_id}/").json()["state"] == "running"
        store().settle([Settlement(message_id=message_id, token=held.token, outcome=Success(value={"rows": 3}))])
        shown = rest.get(f"{MESSAGES}{message_id}/").json()
        assert (shown["state"], shown["result"], shown["error"]) == ("succeeded", {"rows": 3}, None)
        assert None not in (shown["enqueued_at"], shown["started_at"], shown["finished_at"])

    def test_only_what_is_not_there_is_not_found(self, rest):
        assert rest.get(f"{MESSAGES}{uuid.uuid4()}/").status_code == 404

    def test_one_that_is_routed_to_another_store_is_found_there_or_nobody_can_tell(self, rest, settings, monkeypatch):
        stores = {"default": {}, "far": {"NAMESPACE": "far"}, "other": {"NAMESPACE": "other"}}
        settings.PG_QUEUE = {"STORES": stores, "ROUTES": {"away": {"STORE": "far"}}}
        message_id = queue.enqueue("noop", queue="away", using="far")
        assert rest.get(f"{MESSAGES}{message_id}/").json()["state"] == "waiting"
        elsewhere = queue.enqueue("noop", using="other")
        assert rest.get(f"{MESSAGES}{elsewhere}/").status_code == 404, "no queue is routed there"
        ask = queue.get_messages

        def away(ids, *, using="default"):
            if using == "far":
                raise StoreUnavailable("nobody listens")
            return ask(ids, using=using)

        monkeypatch.setattr(queue, "get_messages", away)
        assert rest.get(f"{MESSAGES}{message_id}/").status_code == 503

    @pytest.mark.parametrize(
        "error", [StoreUnavailable("redis at secret-host"), OperationalError("secret-host is away")]
    )
    def test_a_store_that_cannot_be_reached_is_no_missing_message(self, rest, monkeypatch, error):
        def away(ids, **_):
            raise error

        monkeypatch.setattr(queue, "get_messages", away)
        answer = rest.get(f"{MESSAGES}{uuid.uuid4()}/")
        assert answer.status_code == 503
        assert "secret" not in answer.content.decode()

    def test_tenants_see_their_own_only_and_no_traceback(self, make_user, as_user, default, acme):
        mine, other = die("acme"), die("default")
        client = as_user(make_user("ann", acme))
        assert client.get(f"{MESSAGES}{other}/").status_code == 404
        assert client.get(f"{MESSAGES}{mine}/").json()["error"] == {
            "type": "ValueError", "message": "no", "traceback": "",
        }  # fmt: skip
        staff = as_user(make_user("bob", acme, staff=True))
        assert staff.get(f"{MESSAGES}{mine}/").json()["error"]["traceback"] == "File secret.py"

    def test_the_stage_of_a_pipelines_run_is_the_step_that_runs(self, rest, make_pipeline):
        from backend.pipelines.execution import begin
        from backend.pipelines.models import StepExecution

        pipeline = make_pipeline({"task": "noop"}, {"task": "echo"})
        message_id = queue.enqueue("pipelines.run", [str(pipeline.pk)], organization_id="default")
        assert rest.get(f"{MESSAGES}{message_id}/").json()["stage"] is None
        begin(str(pipeline.pk), claim()[0].message)
        assert rest.get(f"{MESSAGES}{message_id}/").json()["stage"] == "step 1 of 2: noop"
        StepExecution.objects.filter(execution_id=message_id, task="noop").update(state="succeeded")
        assert rest.get(f"{MESSAGES}{message_id}/").json()["stage"] == "step 2 of 2: echo"
