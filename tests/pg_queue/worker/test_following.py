"""What an execution has sent on is enqueued with its settlement, or not at all."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Any

import pytest
from django.db import OperationalError, transaction

from pg_queue.domain import Claim, Failure, MessageState, NewMessage, Retry, Settled, Settlement, Success
from pg_queue.storage import store
from pg_queue.tasks import following
from pg_queue.worker.followers import settle

pytestmark = pytest.mark.django_db(transaction=True, available_apps=["pg_queue"])

LEASE = timedelta(seconds=60)


def claimed(**fields: Any) -> Claim:
    store().enqueue([NewMessage(task="noop", **fields)])
    (claim,) = store().claim(queues=["default"], limit=1, lease=LEASE, worker="w")
    return claim


def settlement(claim: Claim, outcome: Any, token: uuid.UUID | None = None) -> Settlement:
    return Settlement(message_id=claim.message.id, token=token or claim.token, outcome=outcome)


def test_a_follower_takes_the_id_of_the_message_that_is_gone() -> None:
    claim = claimed()
    again = NewMessage(task="noop", args=[1], id=claim.message.id)
    answers = settle(store(), [settlement(claim, Success(keep=False, followers=[again]))])
    assert answers == {claim.token: Settled.DONE}
    found = store().get([claim.message.id])[claim.message.id]
    assert (found.state, found.args, found.attempts) == (MessageState.WAITING, [1], 0)


def test_nothing_follows_from_a_settlement_that_was_lost() -> None:
    claim, follower = claimed(), NewMessage(task="noop", id=uuid.uuid4())
    answers = settle(store(), [settlement(claim, Success(followers=[follower]), token=uuid.uuid4())])
    assert list(answers.values()) == [Settled.LOST]
    assert store().get([follower.id]) == {}  # type: ignore[list-item]


def test_a_failure_and_a_retry_have_followers_too() -> None:
    first, second = claimed(), claimed()
    followers = [NewMessage(task="noop", id=uuid.uuid4()) for _ in range(2)]
    retry = Retry(failure=Failure(type="E", message=""), delay=timedelta(seconds=60), followers=followers[:1])
    settle(store(), [settlement(first, retry), settlement(second, Success(followers=followers[1:]))])
    assert len(store().get([one.id for one in followers if one.id])) == 2


def test_one_whose_id_is_in_use_gets_its_own_and_stays_the_task_that_celery_knows() -> None:
    claim, other = claimed(), NewMessage(task="noop", id=uuid.uuid4())
    (taken,) = store().enqueue([NewMessage(task="noop", id=uuid.uuid4())])
    follower = NewMessage(task="noop", id=taken, headers={"celery": {}}, queue="follow")
    settle(store(), [settlement(claim, Success(followers=[follower, other]))])
    (moved,) = store().claim(queues=["follow"], limit=9, lease=LEASE, worker="w")
    assert moved.message.id != taken
    assert moved.message.headers == {"celery": {"headers": {"id": str(taken)}}}
    assert other.id in store().get([other.id])  # type: ignore[list-item]


def test_where_what_follows_cannot_be_stored_nothing_was_settled(monkeypatch: pytest.MonkeyPatch) -> None:
    claim, home = claimed(), store()

    def refuse(messages: object) -> None:
        raise OperationalError("the server went away")

    monkeypatch.setattr(home, "enqueue", refuse)
    with pytest.raises(OperationalError):
        settle(home, [settlement(claim, Success(followers=[NewMessage(task="noop")]))])
    assert home.get([claim.message.id])[claim.message.id].state is MessageState.RUNNING


def test_what_a_task_sends_itself_is_never_held() -> None:
    message = NewMessage(task="noop")
    assert not following.hold([message], in_transaction=False)
    with following.execution() as held:
        assert not following.hold([message], in_transaction=False)
        with following.holding():
            assert following.hold([message], in_transaction=False)
            assert not following.hold([message], in_transaction=True)
            with following.sending():
                assert not following.hold([message], in_transaction=False)
                with following.holding_all():
                    assert following.hold([message], in_transaction=True)
    assert held == [message, message]


def test_a_settlement_without_followers_opens_no_transaction(monkeypatch: pytest.MonkeyPatch) -> None:
    claim = claimed()

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("no transaction is needed")

    monkeypatch.setattr("pg_queue.worker.followers.transaction", type("T", (), {"atomic": refuse}))
    assert settle(store(), [settlement(claim, Success())]) == {claim.token: Settled.DONE}
    assert transaction.get_autocommit()
