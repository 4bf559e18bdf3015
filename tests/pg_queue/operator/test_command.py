"""`manage.py queue` on a store of its own: what an operator sees, does, and finds on record afterwards."""

from __future__ import annotations

import io
import json
import uuid
from datetime import timedelta
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from pg_queue.domain import Death, Failure, MessageState, NewEvent, NewMessage, Settlement
from pg_queue.models import Operation
from pg_queue.process import ExitCode
from pg_queue.storage import store

pytestmark = pytest.mark.django_db(transaction=True, available_apps=["pg_queue"])


def run(*arguments: str) -> tuple[str, str]:
    """Both streams."""
    out, err = io.StringIO(), io.StringIO()
    call_command("queue", *arguments, stdout=out, stderr=err)
    return out.getvalue(), err.getvalue()


def rows(*arguments: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in run(*arguments, "--json")[0].splitlines()]


def enqueue(count: int = 1, **fields: Any) -> list[uuid.UUID]:
    return store().enqueue([NewMessage(task="noop", **fields) for _ in range(count)])


def die(count: int = 1, **fields: Any) -> list[uuid.UUID]:
    """Dead letters."""
    ids = enqueue(count, **fields)
    claims = store().claim(
        queues=[fields.get("queue", "default")], limit=count, lease=timedelta(seconds=60), worker="w"
    )
    death = Death(failure=Failure(type="ValueError", message="no"))
    store().settle([Settlement(message_id=c.message.id, token=c.token, outcome=death) for c in claims])
    return ids


def recorded() -> list[tuple[str, str, int, str]]:
    """What is on record, the oldest first; every act has come to its end."""
    assert not Operation.objects.filter(finished_at=None).exists()
    assert all("manage.py queue" in one.actor for one in Operation.objects.all())
    return list(Operation.objects.order_by("pk").values_list("action", "queue", "count", "reason"))


def test_depth_shows_each_queues_figures() -> None:
    enqueue(3, queue="mail")
    die(queue="reports")
    assert [(r["queue"], r["waiting"], r["dead"], r["switch"]) for r in rows("depth")] == [
        ("mail", 3, 0, "on"),
        ("reports", 0, 1, "on"),
    ]
    assert [r["queue"] for r in rows("depth", "mail")] == ["mail"]


def test_a_queue_that_is_off_gives_nothing_and_says_who_turned_it_off_and_why() -> None:
    enqueue(queue="mail")
    run("off", "mail", "--reason", "the relay is down")
    assert store().claim(queues=["mail"], limit=1, lease=timedelta(seconds=60), worker="w") == []
    (row,) = rows("list")
    assert (row["queue"], row["switch"], row["reason"]) == ("mail", "off", "the relay is down")
    assert "manage.py queue" in row["changed_by"]
    run("on", "mail")
    assert len(store().claim(queues=["mail"], limit=1, lease=timedelta(seconds=60), worker="w")) == 1
    assert recorded() == [("off", "mail", 0, "the relay is down"), ("on", "mail", 0, "")]


@pytest.mark.parametrize("act", [("off", "away"), ("off", "--all"), ("purge", "away", "--yes")])
def test_what_it_does_not_reach_because_it_is_routed_away_is_said(settings: Any, act: tuple[str, ...]) -> None:
    assert run(*act)[1] == ""
    settings.PG_QUEUE = {"ROUTES": {"away": {"CELERY": "backend.celery.app"}}}
    assert "routed away (relay:celery:backend.celery.app) goes on leaving" in run(*act)[1]
    assert run("off", "mail")[1] == ""


def test_all_queues_are_turned_off_at_once_and_one_alone_cannot_be_on_then() -> None:
    enqueue(queue="mail")
    run("off", "--all")
    assert [(r["queue"], r["switch"]) for r in rows("list")] == [("(all)", "off"), ("mail", "off")]
    assert "`queue on --all`" in run("on", "mail")[1]
    assert store().claim(queues=["mail"], limit=1, lease=timedelta(seconds=60), worker="w") == []
    run("on", "--all")
    assert len(store().claim(queues=["mail"], limit=1, lease=timedelta(seconds=60), worker="w")) == 1


def test_purging_cancels_what_waits_and_its_outcome_says_who_and_why() -> None:
    ids = enqueue(1200, queue="mail")
    (other,) = enqueue()
    assert "1200 messages were cancelled" in run("purge", "mail", "--yes", "--reason", "sent by hand")[0]
    message = store().get(ids[:1])[ids[0]]
    assert message.state is MessageState.CANCELLED
    assert message.error is not None
    assert "sent by hand" in message.error.message
    assert "manage.py queue" in message.error.message
    assert store().get([other])[other].state is MessageState.WAITING
    assert recorded() == [("purge", "mail", 1200, "sent by hand")]


def test_dead_letters_are_listed_with_why_they_died_and_replayed_by_id() -> None:
    ids = die(3)
    assert [(r["id"], r["error"]) for r in rows("dead")] == [(str(i), "ValueError: no") for i in sorted(ids)]
    assert "There are more than 2" in run("dead", "--limit", "2")[1]
    out, err = run("replay", str(ids[0]), str(uuid.UUID(int=7)))
    assert "1 messages wait again" in out
    assert f"no dead letter has the id {uuid.UUID(int=7)}" in err
    assert store().get(ids[:1])[ids[0]].state is MessageState.WAITING
    assert recorded() == [("replay", "", 1, "")]
    assert Operation.objects.get().message_ids == [str(ids[0]), str(uuid.UUID(int=7))]


def test_every_dead_letter_of_a_queue_is_replayed_or_dropped() -> None:
    die(1100, queue="mail")
    (other,) = die()
    assert rows("replay", "--queue", "mail") == [{"replayed": 1100}]
    assert [(d.queue, d.waiting, d.dead) for d in store().depths()] == [("default", 0, 1), ("mail", 1100, 0)]
    assert rows("drop", "--queue", "default", "--yes") == [{"dropped": 1}]
    assert store().replay([other]) == set()
    assert [(action, count) for action, _, count, _ in recorded()] == [("replay", 1100), ("drop", 1)]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["purge", "mail"], "--yes: expected to be given, because what is cancelled is not run again"),
        (["drop", "--queue", "mail"], "--yes: expected to be given"),
        (["replay"], "id: expected ids of dead letters, or --queue, got: 'neither'"),
        (["replay", "nonsense"], "id: expected the UUID of a dead letter, got: 'nonsense'"),
        (["off"], "queue: expected the name of a queue, or --all, got: 'neither'"),
        (["off", "mail", "--all"], "queue: expected the name of a queue, or --all, got: 'mail'"),
        (["off", "no such name"], "queue: expected 1 to 128 letters"),
        (["depth", "--store", "nowhere"], r"--store: expected an alias of PG_QUEUE\['STORES'\] \(default\)"),
        (["dead", "--limit", "0"], "--limit: expected a whole number from 1"),
    ],
)
def test_wrong_usage_is_named_and_nothing_is_done(arguments: list[str], said: str) -> None:
    with pytest.raises(CommandError, match=said) as raised:
        run(*arguments)
    assert raised.value.returncode == ExitCode.USAGE
    assert not Operation.objects.exists()


def test_an_act_that_was_cut_off_stays_on_record_with_what_it_had_done(monkeypatch: pytest.MonkeyPatch) -> None:
    ids = die(1500, queue="mail")
    operations = type(store().operations)
    calls = []

    def failing(self: Any, message_ids: list[uuid.UUID]) -> set[uuid.UUID]:
        calls.append(message_ids)
        if len(calls) > 1:
            raise ConnectionError("cut")
        return drop(self, message_ids)

    drop = operations.drop
    monkeypatch.setattr(operations, "drop", failing)
    with pytest.raises(ConnectionError):
        run("drop", "--queue", "mail", "--yes")
    record = Operation.objects.get()
    assert (record.count, record.finished_at) == (1000, None)
    assert [d.dead for d in store().depths()] == [500]
    assert len(ids) == 1500


def test_an_event_that_is_never_to_leave_is_dropped_on_record() -> None:
    poison, other = (store().outbox.publish([NewEvent(topic="t", payload=1)])[0] for _ in range(2))
    unknown = uuid.uuid4()
    with pytest.raises(CommandError, match="--yes"):
        run("drop-events", str(poison))
    with pytest.raises(CommandError, match="id: expected the UUID of an event, got: 'nonsense'"):
        run("drop-events", "nonsense", "--yes")
    out, err = run("drop-events", str(poison), str(unknown), "--reason", "poison", "--yes")
    assert out.strip() == "1 events were deleted."
    assert str(unknown) in err
    assert set(store().outbox.get([poison, other])) == {other}
    assert recorded() == [("drop-events", "", 1, "poison")]
    assert Operation.objects.get().message_ids == [str(poison), str(unknown)]
