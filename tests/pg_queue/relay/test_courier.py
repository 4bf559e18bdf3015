"""One topic of the outbox, brought to a target that does what the test says."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection

from pg_queue import api
from pg_queue.domain import Json, NewEvent, NewMessage
from pg_queue.errors import InvalidMessage
from pg_queue.models import Event
from pg_queue.relay import courier as couriers
from pg_queue.relay.courier import Courier
from pg_queue.relay.followers import Follower, follow, followers
from pg_queue.routes import CELERY

pytestmark = pytest.mark.django_db(transaction=True, available_apps=["pg_queue"])

TOPIC = f"{CELERY}backend.celery.app"


class Scripted:
    """A target that refuses the tasks in `poison`, and goes away at the task in `gone_at`."""

    has_outcomes = False

    def __init__(self) -> None:
        self.taken: list[uuid.UUID] = []
        self.poison: set[str] = set()
        self.gone_at: str | None = None
        self.seconds_each = 0.0
        self.now = 0.0

    def send(self, messages: Sequence[NewMessage]) -> Iterator[tuple[uuid.UUID, Exception | None]]:
        for message in messages:
            assert message.id is not None
            self.now += self.seconds_each
            if message.task == self.gone_at:
                yield message.id, ConnectionError("nobody listens")
                return
            if message.task in self.poison:
                yield message.id, ValueError("what is this?")
            else:
                self.taken.append(message.id)
                yield message.id, None

    def close(self) -> None:
        pass


@pytest.fixture
def target(monkeypatch: pytest.MonkeyPatch, settings: Any) -> Scripted:
    """Where the queue `away` leads."""
    made = Scripted()
    monkeypatch.setattr(couriers, "target_of", lambda topic: made)
    settings.PG_QUEUE = {"ROUTES": {"away": {"CELERY": "backend.celery.app"}}}
    return made


@pytest.fixture
def courier(target: Scripted) -> Courier:
    """Of that topic."""
    return Courier(TOPIC, clock=lambda: target.now)


@pytest.fixture
def taken() -> Iterator[list[tuple[list[uuid.UUID | None], bool]]]:
    """What a follower of `test` was told."""
    told: list[tuple[list[uuid.UUID | None], bool]] = []
    follow(
        "test",
        Follower(
            on_taken=lambda messages, has_outcomes: told.append(([m.id for m in messages], has_outcomes)),
            on_outcomes=lambda messages: None,
        ),
    )
    yield told
    _forget("test")


def _forget(report_to: str) -> None:
    from pg_queue.relay import followers as registry

    registry._followers.pop(report_to)


def put(*tasks: str, **fields: Any) -> list[uuid.UUID]:
    """Events as `dispatch` makes them, one a task."""
    ids = [uuid.uuid4() for _ in tasks]
    payloads: list[Json] = [
        {"id": str(message_id), "task": task, "queue": "away", **fields}
        for message_id, task in zip(ids, tasks, strict=True)
    ]
    api.store().outbox.publish(
        [NewEvent(topic=TOPIC, payload=p, key=str(i), id=i) for i, p in zip(ids, payloads, strict=True)]
    )
    return ids


def waiting() -> dict[uuid.UUID, Event]:
    return {event.pk: event for event in Event.objects.all()}


def seconds_until(event: Event) -> float:
    with connection.cursor() as cursor:
        cursor.execute("SELECT extract(epoch FROM %s - now())", [event.run_after])
        return float(cursor.fetchone()[0])


def due_now() -> None:
    Event.objects.update(run_after="2020-01-01T00:00:00Z")


def test_what_was_taken_is_gone_from_the_outbox_and_its_follower_knows(
    courier: Courier, target: Scripted, taken: list[Any]
) -> None:
    ids = put("a", "b", "c", report_to="test")
    made = courier.make_round()
    assert (made.leased, made.taken, made.refused, made.unsent, made.error) == (3, 3, 0, 0, "")
    assert target.taken == ids
    assert taken == [(ids, False)]
    assert waiting() == {}


def test_one_that_is_refused_waits_alone_and_the_batch_goes_on(
    courier: Courier, target: Scripted, caplog: pytest.LogCaptureFixture
) -> None:
    target.poison = {"bad"}
    first, bad, last = put("a", "bad", "c")
    made = courier.make_round()
    assert (made.taken, made.refused, made.unsent, made.error) == (2, 1, 0, "")
    assert target.taken == [first, last]
    (left,) = waiting().values()
    assert (left.pk, left.error, left.attempts, left.token) == (bad, "ValueError: what is this?", 1, None)
    assert f"relay.deferred topic={TOPIC} key={bad} attempt=1" in caplog.text


def test_it_waits_longer_each_time_but_never_longer_than_the_setting_and_is_never_given_up(
    courier: Courier, target: Scripted
) -> None:
    target.poison = {"bad"}
    (bad,) = put("bad")
    delays = []
    for _ in range(9):
        courier.make_round()
        delays.append(round(seconds_until(waiting()[bad])))
        due_now()
    assert delays == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    target.poison = set()
    assert courier.make_round().taken == 1


def test_when_the_target_goes_away_the_rest_waits_due_and_says_why(courier: Courier, target: Scripted) -> None:
    target.gone_at = "b"
    first, second, third = put("a", "b", "c")
    made = courier.make_round()
    assert (made.taken, made.refused, made.unsent) == (1, 1, 1)
    assert made.error == "ConnectionError: nobody listens"
    assert target.taken == [first]
    left = waiting()
    assert set(left) == {second, third}
    assert {event.error for event in left.values()} == {"ConnectionError: nobody listens"}
    assert seconds_until(left[third]) <= 0


def test_a_target_that_cannot_be_made_puts_everything_off(
    courier: Courier, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(couriers, "target_of", lambda topic: __import__("no_such_module"))
    put("a", "b")
    made = courier.make_round()
    assert (made.unsent, made.error) == (2, "ModuleNotFoundError: No module named 'no_such_module'")
    assert {event.error for event in waiting().values()} == {made.error}
    assert "relay.unavailable" in caplog.text


def test_what_cannot_be_read_waits_alone(courier: Courier, target: Scripted) -> None:
    (good,) = put("a")
    payloads: list[Json] = [None, [], {"task": "a"}, {"id": "no uuid", "task": "a"}, {"id": str(good), "unheard": 1}]
    payloads += [{"id": str(good), "task": "a", "key_ttl": 1e300}, {"id": str(good), "task": "a", "report_to": []}]
    api.store().outbox.publish([NewEvent(topic=TOPIC, payload=payload) for payload in payloads])
    made = courier.make_round()
    assert (made.taken, made.refused) == (1, 7)
    assert target.taken == [good]
    assert all(event.error for event in waiting().values())


def test_it_stops_sending_before_its_lease_is_over(courier: Courier, target: Scripted) -> None:
    target.seconds_each = 16
    ids = put("a", "b", "c", "d")
    made = courier.make_round()
    assert (made.taken, made.unsent, made.error) == (2, 2, "")
    assert set(waiting()) == set(ids[2:])
    assert courier.make_round().taken == 2
    assert sorted(target.taken) == sorted(ids)


def test_what_there_was_no_time_for_is_not_blamed_on_the_one_before_that_was_refused(
    courier: Courier, target: Scripted
) -> None:
    target.seconds_each, target.poison = 16, {"bad"}
    first, bad, third, last = put("a", "bad", "c", "d")
    made = courier.make_round()
    assert (made.taken, made.refused, made.unsent, made.error) == (2, 1, 1, "")
    assert (waiting()[bad].error, waiting()[last].error) == ("ValueError: what is this?", "")
    assert not {first, third} & set(waiting())


def test_a_target_that_takes_all_the_time_to_fail_is_known_not_to_answer(courier: Courier, target: Scripted) -> None:
    target.seconds_each, target.gone_at = 40, "a"
    put("a", "b")
    made = courier.make_round()
    assert (made.taken, made.unsent, made.error) == (0, 1, "ConnectionError: nobody listens")


def test_what_was_taken_and_its_followers_word_are_one_transaction(courier: Courier, target: Scripted) -> None:
    def fail(messages: Sequence[NewMessage], has_outcomes: bool) -> None:
        raise RuntimeError("the ledger is full")

    follow("test", Follower(on_taken=fail, on_outcomes=lambda messages: None))
    try:
        (message_id,) = put("a", report_to="test")
        with pytest.raises(RuntimeError, match="the ledger is full"):
            courier.make_round()
    finally:
        _forget("test")
    assert set(waiting()) == {message_id}, "it is sent again when its lease is over"


def test_of_two_relays_the_one_that_comes_late_is_told(
    courier: Courier, target: Scripted, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    (message_id,) = put("a")
    send = target.send

    def send_while_another_takes_it(messages: Sequence[NewMessage]) -> Iterator[tuple[uuid.UUID, Exception | None]]:
        due_now()
        (other,) = api.store().outbox.lease([TOPIC], limit=1, lease=timedelta(seconds=60))
        assert other.id == message_id
        yield from send(messages)

    monkeypatch.setattr(target, "send", send_while_another_takes_it)
    with caplog.at_level(logging.WARNING):
        courier.make_round()
    assert "relay.repeated" in caplog.text
    assert set(waiting()) == {message_id}, "the other's lease holds"


def test_other_topics_are_left_alone(courier: Courier, target: Scripted) -> None:
    api.store().outbox.publish([NewEvent(topic="relay:store:other", payload={"id": str(uuid.uuid4()), "task": "a"})])
    assert courier.make_round().leased == 0
    assert len(waiting()) == 1


class TestDispatch:
    """The beginning of the road."""

    def test_a_routed_message_waits_in_the_outbox_under_its_id(self, target: Scripted, courier: Courier) -> None:
        message_id = api.dispatch(NewMessage(task="noop", args=[1], queue="away", priority=7, organization_id="acme"))
        assert api.get_messages([message_id]) == {}
        (event,) = waiting().values()
        assert (event.pk, event.key, event.topic) == (message_id, str(message_id), TOPIC)
        ((topic, count, failing),) = [(one.topic, one.waiting, one.failing) for one in api.outbox_backlog()]
        assert (topic, count, failing) == (TOPIC, 1, 0)
        courier.make_round()
        assert target.taken == [message_id]

    def test_any_other_is_enqueued(self, target: Scripted) -> None:
        message_id = api.dispatch(NewMessage(task="noop"))
        assert set(api.get_messages([message_id])) == {message_id}
        assert waiting() == {}

    @pytest.mark.parametrize(
        "fields", [{"key": "k"}, {"on_success": [NewMessage(task="noop")]}, {"on_failure": [NewMessage(task="noop")]}]
    )
    def test_what_cannot_leave_is_refused(self, target: Scripted, fields: dict[str, Any]) -> None:
        with pytest.raises(InvalidMessage, match="which is routed away"):
            api.dispatch(NewMessage(task="noop", queue="away", **fields))
        assert waiting() == {}

    def test_it_is_checked_as_any_message(self, target: Scripted) -> None:
        with pytest.raises(InvalidMessage):
            api.dispatch(NewMessage(task="noop", queue="away", priority=11))


def test_the_scheduler_follows_its_runs() -> None:
    from scheduler.domain import REPORT_TO

    assert REPORT_TO in followers()
