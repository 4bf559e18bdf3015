"""A courier per topic, in threads: what one target does holds up no other."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from pg_queue import api
from pg_queue.domain import NewEvent, NewMessage
from pg_queue.models import Event
from pg_queue.relay import Relay, service
from pg_queue.relay import courier as couriers
from pg_queue.routes import CELERY

pytestmark = pytest.mark.django_db(transaction=True, available_apps=["pg_queue"])

SLOW, QUICK, GONE = f"{CELERY}proj.slow", f"{CELERY}proj.quick", f"{CELERY}proj.gone"
SOON = 60


class Taking:
    """A target that takes everything, once it is let."""

    has_outcomes = False

    def __init__(self) -> None:
        self.taken: list[uuid.UUID | None] = []
        self.let = threading.Event()
        self.is_asked = threading.Event()

    def send(self, messages: Sequence[NewMessage]) -> Iterator[tuple[Any, Exception | None]]:
        for message in messages:
            self.is_asked.set()
            assert self.let.wait(10 * SOON)
            self.taken.append(message.id)
            yield message.id, None

    def close(self) -> None:
        pass


def wait_until(is_true: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + SOON
    while not is_true():
        assert time.monotonic() < deadline, f"not within {SOON} s: {what}"
        time.sleep(0.02)


def put(topic: str) -> uuid.UUID:
    message_id = uuid.uuid4()
    payload = {"id": str(message_id), "task": "noop"}
    return api.store().outbox.publish([NewEvent(topic=topic, payload=payload, id=message_id)])[0]


@pytest.fixture
def targets(monkeypatch: pytest.MonkeyPatch, settings: Any) -> dict[str, Taking]:
    """By topic; of `GONE` there is none that can be made."""
    made = {SLOW: Taking(), QUICK: Taking()}
    monkeypatch.setattr(couriers, "target_of", made.__getitem__)
    routes = {topic.rpartition(".")[2]: {"CELERY": topic.removeprefix(CELERY)} for topic in (SLOW, QUICK, GONE)}
    settings.PG_QUEUE = {"ROUTES": routes, "RELAY_SECONDS": 0.05, "RELAY_BACKOFF_MAX_SECONDS": 0.1}
    return made


@pytest.fixture
def relay(targets: dict[str, Taking]) -> Iterator[Relay]:
    """One that runs."""
    made = Relay()
    made.start()
    yield made
    for target in targets.values():
        target.let.set()
    made.stop()
    made.join(SOON)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("relay")]


def test_a_target_that_hangs_and_one_that_cannot_be_made_hold_up_no_other(
    relay: Relay, targets: dict[str, Taking]
) -> None:
    targets[QUICK].let.set()
    hanging, gone = put(SLOW), put(GONE)
    assert targets[SLOW].is_asked.wait(SOON)
    wait_until(lambda: relay.status()[GONE].get("error"), "the missing target is noticed")
    sent = [put(QUICK) for _ in range(3)]
    wait_until(lambda: targets[QUICK].taken == sent, "the quick one is served")
    wait_until(lambda: set(Event.objects.values_list("pk", flat=True)) == {hanging, gone}, "it is noted as sent")
    wait_until(lambda: relay.status()[QUICK] == {"sent": 3, "deferred": 0}, "the relay says so")
    assert relay.status()[GONE]["error"].startswith("KeyError")


def test_a_target_that_is_back_gets_what_waited(relay: Relay, targets: dict[str, Taking]) -> None:
    message_id = put(GONE)
    wait_until(lambda: relay.status()[GONE].get("error"), "the missing target is noticed")
    targets[GONE] = Taking()
    targets[GONE].let.set()
    wait_until(lambda: targets[GONE].taken == [message_id], "it is sent")
    wait_until(lambda: "error" not in relay.status()[GONE], "the relay says so")


def test_outcomes_that_cannot_be_carried_over_keep_nothing_from_being_sent(
    relay: Relay, targets: dict[str, Taking], settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(courier: couriers.Courier) -> int:
        raise ValueError("no outcomes")

    monkeypatch.setattr(couriers.Courier, "collect", fail)
    monkeypatch.setattr(service, "FIRST_DELAY_SECONDS", 10 * SOON)
    settings.PG_QUEUE = {**settings.PG_QUEUE, "RELAY_BACKOFF_MAX_SECONDS": 10 * SOON}
    wait_until(lambda: relay.status()[QUICK].get("outcomes_error") == "ValueError: no outcomes", "it is told")
    targets[QUICK].let.set()
    sent = [put(QUICK) for _ in range(3)]
    wait_until(lambda: targets[QUICK].taken == sent, "they are sent")
    assert "error" not in relay.status()[QUICK]
    monkeypatch.undo()
    wait_until(lambda: "outcomes_error" not in relay.status()[QUICK], "it is over")


def test_topics_that_no_route_names_any_more_are_relayed_too(
    targets: dict[str, Taking], settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.PG_QUEUE = {}
    targets[QUICK].let.set()
    message_id = put(QUICK)
    assert {topic: made.taken for topic, made in Relay().run_once().items()} == {QUICK: 1}
    assert targets[QUICK].taken == [message_id]


def test_what_is_no_message_of_ours_is_left_to_its_own_relay(targets: dict[str, Taking]) -> None:
    api.publish("orders", {"number": 1})
    assert set(Relay().run_once()) == {SLOW, QUICK, GONE}
    assert Event.objects.get().attempts == 0


def test_without_routes_and_backlog_nothing_is_asked_for(settings: Any) -> None:
    settings.PG_QUEUE = {}
    assert Relay().run_once() == {}
    relay = Relay()
    relay.start()
    assert relay.status() == {}
    relay.stop()
    relay.join(SOON)
