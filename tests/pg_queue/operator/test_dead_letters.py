"""`manage.py dead_letters` on a store of its own."""

from __future__ import annotations

import io
import json
import uuid
from datetime import timedelta
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from pg_queue.domain import Death, Failure, MessageState, NewMessage, Settlement
from pg_queue.models import Operation
from pg_queue.process import ExitCode
from pg_queue.storage import store

pytestmark = pytest.mark.django_db(transaction=True, available_apps=["pg_queue"])


def run(*arguments: str) -> str:
    out = io.StringIO()
    call_command("dead_letters", *arguments, stdout=out, stderr=io.StringIO())
    return out.getvalue()


def rows(*arguments: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in run(*arguments, "--json").splitlines()]


def die(count: int = 1, **fields: Any) -> list[uuid.UUID]:
    ids = store().enqueue([NewMessage(task="noop", args=[1], kwargs={"k": "v"}, **fields) for _ in range(count)])
    queue = fields.get("queue", "default")
    claims = store().claim(queues=[queue], limit=count, lease=timedelta(seconds=60), worker="w")
    death = Death(failure=Failure(type="shop.Empty", message="nothing left", traceback="Traceback: line 7"))
    store().settle([Settlement(message_id=c.message.id, token=c.token, outcome=death) for c in claims])
    return ids


def test_they_are_listed_and_counted_by_queue() -> None:
    die(2, queue="mails")
    (other,) = die()
    assert {row["queue"] for row in rows("list")} == {"mails", "default"}
    (shown,) = rows("list", "--queue", "default")
    assert (shown["id"], shown["error"], shown["attempts"]) == (str(other), "shop.Empty: nothing left", 1)
    assert rows("count") == [{"queue": "default", "dead": 1}, {"queue": "mails", "dead": 2}]
    assert rows("count", "mails") == [{"queue": "mails", "dead": 2}]


def test_one_is_shown_with_all_that_is_kept_of_it() -> None:
    _, wanted, _ = die(3, headers={"from": "shop"})
    (shown,) = rows("show", str(wanted))
    assert (shown["id"], shown["args"], shown["kwargs"], shown["headers"]) == (
        str(wanted),
        [1],
        {"k": "v"},
        {"from": "shop"},
    )
    assert (shown["error"], shown["message"], shown["traceback"]) == ("shop.Empty", "nothing left", "Traceback: line 7")
    assert shown["died_at"]
    assert "Traceback: line 7" in run("show", str(wanted))


def test_one_that_is_not_there_is_told_from_one_with_another_id() -> None:
    die()
    for missing in (uuid.UUID(int=0), uuid.uuid4()):
        with pytest.raises(CommandError, match=f"no dead letter has the id {missing}") as raised:
            run("show", str(missing))
        assert raised.value.returncode == ExitCode.NOT_FOUND
    with pytest.raises(CommandError, match="id: expected the UUID of a dead letter, got: 'x'"):
        run("show", "x")


def test_they_are_replayed_and_dropped_on_record_under_this_commands_name() -> None:
    first, second, third = die(3)
    assert rows("replay", str(first), "--reason", "mended") == [{"replayed": 1}]
    assert rows("drop", str(second), "--yes") == [{"dropped": 1}]
    assert store().get([first])[first].state is MessageState.WAITING
    assert [row["id"] for row in rows("list")] == [str(third)]
    assert [one.action for one in Operation.objects.order_by("pk")] == ["replay", "drop"]
    assert all(one.actor.endswith(": manage.py dead_letters") for one in Operation.objects.all())


def test_a_replay_may_keep_the_attempts_that_were_made() -> None:
    kept, reset = die(2)
    run("replay", str(kept), "--keep-attempts")
    run("replay", str(reset))
    assert {i: m.attempts for i, m in store().get([kept, reset]).items()} == {kept: 1, reset: 0}
    (other,) = die(queue="mails")
    run("replay", "--queue", "mails", "--keep-attempts")
    assert store().get([other])[other].attempts == 1


def test_purging_deletes_those_of_a_queue_or_of_all_and_wants_a_word_for_it() -> None:
    die(2, queue="mails")
    die(1)
    die(1, queue="other")
    for wrong in (["--yes"], ["--queue", "mails", "--all", "--yes"], ["--all"], ["--queue", "a b", "--yes"]):
        with pytest.raises(CommandError) as raised:
            run("purge", *wrong)
        assert raised.value.returncode == ExitCode.USAGE
    assert sum(row["dead"] for row in rows("count")) == 4, "nothing was deleted"
    assert rows("purge", "--queue", "mails", "--yes") == [{"purged": 2}]
    assert [row["queue"] for row in rows("count")] == ["default", "other"]
    assert run("purge", "--all", "--yes") == "2 dead letters were deleted.\n"
    assert rows("count") == []
