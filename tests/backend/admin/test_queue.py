"""The admin of the queue: rows to be looked at, in tables that are too large to count."""

from __future__ import annotations

import re
import uuid

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from pg_queue import api
from pg_queue.admin import QueueFilter
from pg_queue.models import DeadLetter, Event, Message, Operation, Result

pytestmark = pytest.mark.django_db

PAGES = {name: f"/admin/pg_queue/{name}/" for name in ("message", "result", "deadletter", "event", "worker", "leader")}


def add(queue: str) -> None:
    """One message, one result and one dead letter of this queue."""
    kept = {"task": "noop", "queue": queue, "priority": 5, "attempts": 1, "max_attempts": 1}
    kept["enqueued_at"] = timezone.now()
    api.enqueue("noop", queue=queue, priority=3)
    Result.objects.create(message_id=uuid.uuid4(), state="failed", run_after=timezone.now(), **kept)
    DeadLetter.objects.create(id=uuid.uuid4(), error={}, **kept)


def listed(answer) -> set[str]:
    return {row.queue for row in answer.context["cl"].result_list}


def offered(answer, title: str) -> list[str]:
    (found,) = [spec for spec in answer.context["cl"].filter_specs if spec.title == title]
    return [str(display) for _, display in found.lookup_choices]


@pytest.mark.parametrize("name", PAGES)
def test_no_page_counts_a_whole_table_or_looks_through_it_for_choices(browser, name):
    for number in range(5):
        add(f"q{number}")
    with CaptureQueriesContext(
        connection,
    ) as captured:
        assert browser.get(PAGES[name]).status_code == 200
    about = [query["sql"] for query in captured if f'"pg_queue_{name}"' in query["sql"]]
    assert about
    unbounded = [sql for sql in about if re.search(r"COUNT\(|DISTINCT", sql) and "LIMIT 10000" not in sql]
    assert unbounded == []


@pytest.mark.parametrize("model", [Message, Result, DeadLetter])
def test_a_list_is_narrowed_to_a_queue_of_those_that_its_first_rows_are_of(browser, monkeypatch, model):
    for queue in ("old", "b", "a"):
        add(queue)
    monkeypatch.setattr(QueueFilter, "first_rows", 2)
    page = PAGES[model._meta.model_name]
    assert offered(browser.get(page), "queue") == sorted({row.queue for row in model.objects.all()} - {left_out(model)})
    answer = browser.get(f"{page}?queue={left_out(model)}")
    assert listed(answer) == {left_out(model)}
    assert left_out(model) in offered(answer, "queue")


def left_out(model) -> str:
    """The queue of the row that comes last in the list."""
    order = {"message": "-id", "result": "-message_id", "deadletter": "-died_at"}[model._meta.model_name]
    return list(model.objects.order_by(order, "-pk"))[-1].queue


def test_messages_are_narrowed_by_priority(browser):
    add("a")
    page = PAGES["message"]
    assert offered(browser.get(page), "priority") == [str(number) for number in range(10, 0, -1)]
    assert listed(browser.get(f"{page}?priority=3")) == {"a"}
    assert listed(browser.get(f"{page}?priority=4")) == set()
    assert listed(browser.get(f"{page}?priority=x")) == {"a"}


def test_the_outbox_tells_what_was_put_off_and_why(browser):
    waits, fails = api.publish("relay:celery:proj", {}), api.publish("t", {})
    Event.objects.filter(pk=fails).update(error="ConnectionError: nobody listens", attempts=3)
    page = browser.get(PAGES["event"])
    assert "ConnectionError: nobody listens" in page.content.decode()
    assert offered(page, "topic") == ["relay:celery:proj", "t"]
    for query, found in ({"put_off": "yes"}, fails), ({"put_off": "no"}, waits), ({"topic": "t"}, fails):
        assert [row.pk for row in browser.get(PAGES["event"], query).context["cl"].result_list] == [found]
    assert browser.post(f"{PAGES['event']}{fails}/delete/", {"post": "yes"}).status_code == 403


def test_an_event_that_is_never_to_leave_is_dropped_on_record(browser):
    poison, other = api.publish("t", {}), api.publish("t", {})
    page = browser.post(PAGES["event"], {"action": "drop", "_selected_action": [poison]}, follow=True)
    assert "1 events were deleted." in page.content.decode()
    assert [event.pk for event in Event.objects.all()] == [other]
    record = Operation.objects.get()
    assert (record.action, record.count, record.message_ids) == ("drop-events", 1, [str(poison)])
    assert record.actor.endswith(": admin")


def test_dead_letters_of_every_namespace_can_be_replayed_together(browser) -> None:
    for namespace in ("", "acme"):
        add(f"q{namespace}")
        DeadLetter.objects.filter(queue=f"q{namespace}").update(namespace=namespace)
    chosen = {"action": "replay", "_selected_action": list(DeadLetter.objects.values_list("pk", flat=True))}
    page = browser.post(PAGES["deadletter"], chosen, follow=True)
    assert "2 messages wait again." in page.content.decode()
    assert set(Message.objects.filter(attempts=0, max_attempts=1).values_list("namespace", "queue")) == {
        ("", "q"),
        ("acme", "qacme"),
    }
