"""Request and reply: a caller waits for the end of a message, and cancels it when it gives up."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.db import connections
from django.test import override_settings

from pg_queue import api
from pg_queue.domain import Capability, Claim, Death, Failure, Settlement, Success
from pg_queue.models import Message
from pg_queue.storage.postgres import PostgresStore

pytestmark = pytest.mark.django_db(transaction=True, available_apps=["pg_queue"])

LONG = timedelta(seconds=60)
SOON = timedelta(seconds=0.2)


@pytest.fixture(autouse=True)
def _empty() -> Iterator[None]:
    yield
    Message.objects.all().delete()


def claimed(store: Any = None) -> Claim:
    lease = timedelta(seconds=60)
    (one,) = (store or api.store()).claim(queues=["default"], limit=1, lease=lease, worker="w")
    return one


def settle(one: Claim, outcome: Success | Death) -> None:
    api.store().settle([Settlement(message_id=one.message.id, token=one.token, outcome=outcome)])


def after(seconds: float, work: Any) -> threading.Thread:
    def run() -> None:
        time.sleep(seconds)
        try:
            work()
        finally:
            connections.close_all()

    thread = threading.Thread(target=run)
    thread.start()
    return thread


@pytest.mark.parametrize(
    ("outcome", "state", "value"),
    [
        (Success(value={"total": 3}), api.MessageState.SUCCEEDED, {"total": 3}),
        (Death(failure=Failure(type="ValueError", message="no")), api.MessageState.FAILED, None),
    ],
)
def test_the_outcome_is_returned_when_the_message_has_ended(
    outcome: Success | Death, state: api.MessageState, value: Any
) -> None:
    message_id = api.enqueue("noop")
    worker = after(0.1, lambda: settle(claimed(), outcome))
    message = api.wait(message_id, timeout=LONG)
    worker.join(60)
    assert (message.id, message.state, message.result) == (message_id, state, value)
    assert api.wait(message_id, timeout=timedelta()) == message, "what has ended is not waited for"


def test_a_caller_who_gives_up_cancels_the_message() -> None:
    message_id = api.enqueue("noop")
    with pytest.raises(api.WaitedTooLong, match=rf"{message_id}.*got: waiting"):
        api.wait(message_id, timeout=SOON)
    message = api.get_messages([message_id])[message_id]
    assert message.state is api.MessageState.CANCELLED
    assert message.error is not None
    assert "gave up" in message.error.message


def test_a_caller_who_gives_up_cancels_the_execution_too() -> None:
    message_id = api.enqueue("noop")
    one = claimed()
    with pytest.raises(api.WaitedTooLong, match="got: running"):
        api.wait(message_id, timeout=SOON)
    assert api.store().renew([(message_id, one.token)], lease=LONG) == set()


def test_a_caller_may_give_up_and_leave_the_message_alone() -> None:
    message_id = api.enqueue("noop")
    with pytest.raises(api.WaitedTooLong):
        api.wait(message_id, timeout=SOON, cancel_on_timeout=False)
    assert api.get_messages([message_id])[message_id].state is api.MessageState.WAITING


def test_a_message_that_ends_in_the_last_moment_gives_its_outcome(monkeypatch: pytest.MonkeyPatch) -> None:
    message_id = api.enqueue("noop")
    one = claimed()
    cancel = PostgresStore.cancel

    def cancel_too_late(self: PostgresStore, ids: Any, *, reason: str = "") -> set[uuid.UUID]:
        settle(one, Success(value="just so"))
        return cancel(self, ids, reason=reason)

    monkeypatch.setattr(PostgresStore, "cancel", cancel_too_late)
    assert api.wait(message_id, timeout=SOON).result == "just so"


def test_an_unknown_message_is_not_waited_for() -> None:
    before = time.monotonic()
    with pytest.raises(api.UnknownMessage, match="expected the id of a message that is kept"):
        api.wait(uuid.uuid4(), timeout=LONG)
    assert time.monotonic() - before < 30


def test_a_store_that_cannot_cancel_says_so_before_any_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    message_id = api.enqueue("noop")
    monkeypatch.setattr(PostgresStore, "capabilities", PostgresStore.capabilities - {Capability.CANCEL})
    with pytest.raises(api.CapabilityMissing, match="cancel"):
        api.wait(message_id, timeout=LONG)
    with pytest.raises(api.WaitedTooLong):
        api.wait(message_id, timeout=timedelta(), cancel_on_timeout=False)


@override_settings(PG_QUEUE={"STORES": {"default": {}, "tenant": {"NAMESPACE": "tenant"}}})
def test_every_function_takes_the_store_that_it_is_to_use() -> None:
    message_id = api.enqueue("noop", report_to="me", using="tenant")
    other = api.enqueue("noop", using="tenant")
    assert api.get_messages([message_id]) == {}
    assert list(api.get_messages([message_id], using="tenant")) == [message_id]
    assert [depth.waiting for depth in api.depths(using="tenant")] == [2]
    assert list(api.depths()) == []
    one = claimed(api.store("tenant"))
    settle(one, Death(failure=Failure(type="ValueError", message="no")))
    assert api.replay([message_id]) == set()
    assert api.wait(message_id, timeout=LONG, using="tenant").state is api.MessageState.FAILED
    assert [m.id for m in api.take_outcomes("me", limit=10, using="tenant")] == [message_id]
    assert api.replay([message_id], using="tenant") == {message_id}
    assert api.cancel([message_id, other]) == set()
    assert api.cancel([message_id, other], using="tenant") == {message_id, other}


@pytest.mark.parametrize("timeout", [5, None, timedelta(seconds=-1)])
def test_what_is_no_span_of_time_is_refused_by_name(timeout: Any) -> None:
    with pytest.raises(api.InvalidMessage, match="timeout: expected a timedelta, 0 or more, got: "):
        api.wait(uuid.uuid4(), timeout=timeout)
