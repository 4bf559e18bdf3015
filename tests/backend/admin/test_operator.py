"""The operator's pages of the queue: switches, purging, dead letters, and the record of it all."""

from __future__ import annotations

import uuid

import pytest
from django.utils import timezone

from pg_queue import api
from pg_queue.domain import MessageState
from pg_queue.models import DeadLetter, Operation, Switch

pytestmark = pytest.mark.django_db
SWITCHES, DEAD, RECORD = (f"/admin/pg_queue/{name}/" for name in ("switch", "deadletter", "operation"))


def letter() -> DeadLetter:
    return DeadLetter.objects.create(
        id=uuid.uuid4(), task="noop", queue="mail", priority=5, attempts=1, max_attempts=1, error={},
        organization_id="default", enqueued_at=timezone.now(),
    )  # fmt: skip


def recorded() -> list[tuple[str, str, str, int, str]]:
    return list(Operation.objects.order_by("pk").values_list("actor", "action", "queue", "count", "reason"))


def test_a_queue_is_turned_off_and_on_in_its_form(browser):
    answer = browser.post(f"{SWITCHES}add/", {"queue": "mail", "reason": "too many"}, follow=True)
    assert "was added successfully" in answer.content.decode()
    switch = Switch.objects.get()
    assert (switch.queue, switch.is_on, switch.changed_by, switch.reason) == ("mail", False, "root: admin", "too many")
    browser.post(f"{SWITCHES}{switch.pk}/change/", {"is_on": "on", "reason": ""})
    switch.refresh_from_db()
    assert switch.is_on
    assert recorded() == [
        ("root: admin", "off", "mail", 0, "too many"),
        ("root: admin", "on", "mail", 0, ""),
    ]


def test_no_name_means_all_queues(browser):
    browser.post(f"{SWITCHES}add/", {"queue": "", "reason": ""})
    assert [(one.queue, one.is_on) for one in api.store().switches.list()] == [(None, False)]
    assert "(all queues)" in browser.get(SWITCHES).content.decode()


def test_a_name_that_no_queue_can_have_is_refused_at_its_field(browser):
    answer = browser.post(f"{SWITCHES}add/", {"queue": "no such name"})
    assert "expected 1 to 128 letters" in answer.content.decode()
    assert not Switch.objects.exists()
    assert recorded() == []


def test_chosen_queues_are_purged(browser):
    message_id = api.enqueue("noop", queue="mail")
    browser.post(f"{SWITCHES}add/", {"queue": "mail"})
    browser.post(SWITCHES, {"action": "purge", "_selected_action": [Switch.objects.get().pk]})
    assert api.get_messages([message_id])[message_id].state is MessageState.CANCELLED
    assert recorded()[-1] == ("root: admin", "purge", "mail", 1, "")


@pytest.mark.parametrize(("action", "left"), [("replay", 0), ("drop", 0)])
def test_dead_letters_are_replayed_and_dropped_on_record(browser, action, left):
    one = letter()
    answer = browser.post(DEAD, {"action": action, "_selected_action": [one.pk]}, follow=True)
    assert answer.status_code == 200
    assert DeadLetter.objects.count() == left
    assert [row[:2] for row in recorded()] == [("root: admin", action)]
    assert (one.pk in api.get_messages([one.pk])) is (action == "replay")


def test_the_record_is_shown_and_changed_by_nobody(browser):
    browser.post(f"{SWITCHES}add/", {"queue": "mail", "reason": "too many"})
    shown = browser.get(RECORD).content.decode()
    assert "root: admin" in shown
    assert "too many" in shown
    assert browser.get(f"{RECORD}add/").status_code == 403
    change = f"{RECORD}{Operation.objects.get().pk}/change/"
    assert browser.post(change, {"actor": "nobody"}).status_code == 403
    assert browser.post(f"{RECORD}{Operation.objects.get().pk}/delete/").status_code == 403


def test_switches_and_the_record_are_for_superusers(client, make_user, default):
    client.force_login(make_user("ann", default, staff=True))
    for page in (SWITCHES, RECORD, f"{SWITCHES}add/"):
        assert client.get(page).status_code == 403
    assert client.post(f"{SWITCHES}add/", {"queue": "mail"}).status_code == 403
    assert not Switch.objects.exists()


def test_what_is_done_to_a_switch_is_done_to_its_own_namespace(browser):
    store = api.store()
    mine, theirs = (
        place.enqueue([api.NewMessage(task="noop", queue="mail")])[0] for place in (store, store.within("acme"))
    )
    api.Operator("shell", namespace="acme").turn("mail", is_on=False)
    switch = Switch.objects.get()
    assert "acme" in browser.get(SWITCHES).content.decode()
    browser.post(f"{SWITCHES}{switch.pk}/change/", {"is_on": "on", "reason": "it is well again"})
    switch.refresh_from_db()
    assert switch.is_on
    browser.post(SWITCHES, {"action": "purge", "_selected_action": [switch.pk]})
    assert store.get([mine])[mine].state is MessageState.WAITING
    assert store.within("acme").get([theirs])[theirs].state is MessageState.CANCELLED
    assert set(Operation.objects.values_list("namespace", flat=True)) == {"acme"}


def test_a_store_with_a_namespace_of_its_own_is_switched_there(browser, settings):
    settings.PG_QUEUE = {**settings.PG_QUEUE, "STORES": {"default": {"NAMESPACE": "acme"}}}
    answer = browser.post(f"{SWITCHES}add/", {"queue": "mail", "reason": ""}, follow=True)
    assert "was added successfully" in answer.content.decode()
    assert Switch.objects.get().namespace == "acme"
