"""What the decorator makes of a function: callable as before, and enqueued by its own parameters."""

from __future__ import annotations

import asyncio
import inspect
import pickle
import subprocess
import sys
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import iscoroutinefunction, sync_to_async
from django.db import connections, transaction

from pg_queue import api
from pg_queue.api import TaskContext, task
from pg_queue.tasks import registry
from tests.pg_queue.tasks.working import claimed, stored, work

pytestmark = pytest.mark.django_db
ROOT = Path(__file__).resolve().parents[3]


@task("test.handles.add")
def add(left: int, right: int = 0) -> int:
    """Return the sum."""
    return left + right


@task("test.handles.tell", queue="mail", priority=8)
def tell(context: TaskContext, word: str) -> str:
    """Return the word and the attempt."""
    return f"{word} {context.attempt}"


@pytest.fixture(autouse=True)
def _declared(monkeypatch: pytest.MonkeyPatch) -> None:
    for one in (add, tell):
        monkeypatch.setitem(registry._registered, one.task_name, one.info)


def test_a_task_is_called_as_the_function_that_it_is() -> None:
    assert add(1, right=2) == 3
    assert (add.__name__, add.__doc__, add.__module__) == ("add", "Return the sum.", __name__)
    assert str(inspect.signature(add)) == "(left: 'int', right: 'int' = 0) -> 'int'"
    assert pickle.loads(pickle.dumps(add)) is add
    assert repr(add) == "<task test.handles.add>"


def test_an_async_one_is_known_as_one() -> None:
    @task("test.handles.async")
    async def waits(value: int) -> int:
        return value

    assert iscoroutinefunction(waits)
    assert not iscoroutinefunction(add)
    assert asyncio.run(waits(3)) == 3


@pytest.mark.django_db(transaction=True, available_apps=["pg_queue"])
def test_what_is_enqueued_is_run_with_its_arguments() -> None:
    ids = [add.enqueue(1, right=2), add.options(run_after=None).enqueue(left=4)]
    work()
    assert [stored(one).result for one in ids] == [3, 4]


@pytest.mark.django_db(transaction=True, available_apps=["pg_queue"])
def test_one_that_takes_its_context_is_enqueued_without_it_into_its_own_queue() -> None:
    ids = [tell.enqueue("a"), api.enqueue("test.handles.tell", ["b"]), tell.options(priority=3).enqueue("c")]
    elsewhere = api.enqueue("test.handles.tell", ["d"], queue="other", priority=2)
    assert [(stored(one).queue, stored(one).priority) for one in [*ids, elsewhere]] == [
        ("mail", 8),
        ("mail", 8),
        ("mail", 3),
        ("other", 2),
    ]
    work("mail")
    assert [stored(one).result for one in ids] == ["a 1", "b 1", "c 1"]


@pytest.mark.django_db(transaction=True, available_apps=["pg_queue"])
def test_enqueue_joins_the_transaction() -> None:
    with transaction.atomic():
        message_id = add.enqueue(1)
        transaction.set_rollback(True)
    assert api.get_messages([message_id]) == {}


def test_options_are_the_messages_and_add_up() -> None:
    own = uuid.uuid4()
    sending = add.options(queue="a", headers={"trace": "t"}).options(queue="b", organization_id="acme", id=own)
    message = stored(sending.enqueue(1))
    assert (message.id, message.queue, message.headers, message.organization_id) == (own, "b", {"trace": "t"}, "acme")
    key = add.options(key="k", key_ttl=timedelta())
    assert key.enqueue(1) == key.enqueue(2) != add.enqueue(1)


@pytest.mark.parametrize("delay", [90, 90.0, timedelta(seconds=90)])
def test_a_delay_counts_from_the_enqueue(delay: Any) -> None:
    sending = add.options(delay=delay)
    before = datetime.now(UTC)
    message = stored(sending.enqueue(1))
    assert timedelta(seconds=90) <= message.run_after - before < timedelta(seconds=150)
    assert claimed() == []


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"delay": -1}, "delay: expected a timedelta or a number of seconds, 0 or more, got: -1"),
        ({"delay": "soon"}, "delay: expected a timedelta or a number of seconds"),
        ({"delay": float("nan")}, "delay: expected a timedelta or a number of seconds"),
        ({"delay": timedelta(days=9999)}, "delay: expected a timedelta or a number of seconds"),
        ({"delay": 5, "run_after": datetime.now(UTC)}, "delay: expected None together with run_after"),
        ({"countdown": 5}, "options: expected some of delay, expires, headers, id, key"),
    ],
)
def test_senseless_options_are_refused_by_name(given: dict[str, Any], text: str) -> None:
    with pytest.raises(api.InvalidMessage) as caught:
        add.options(**given)
    assert str(caught.value).startswith(text)
    with pytest.raises(api.InvalidMessage, match=r"^priority: "):
        add.options(priority=11).enqueue(1)


@pytest.mark.parametrize("given", [{"queue": "a b"}, {"priority": 0}])
def test_a_queue_or_a_priority_that_no_message_may_have_is_refused_where_it_is_declared(given: Any) -> None:
    with pytest.raises(ValueError, match=f"^{next(iter(given))}: expected"):
        task("test.handles.wrong", **given)(lambda: None)


def test_many_are_stored_at_once_all_or_none() -> None:
    ids = add.enqueue_many([(1,), (1, 2), {"left": 3, "right": 4}, add.message(5, right=6), ()])
    found = api.get_messages(ids)
    assert [(found[one].args, found[one].kwargs) for one in ids] == [
        ([1], {}),
        ([1, 2], {}),
        ([], {"left": 3, "right": 4}),
        ([5], {"right": 6}),
        ([], {}),
    ]
    assert [stored(one).queue for one in add.options(queue="bulk").enqueue_many([(1,)])] == ["bulk"]
    before = len(claimed(limit=100))
    with pytest.raises(api.PayloadNotJSON):
        add.enqueue_many([(1,), ({2},)])
    with pytest.raises(api.InvalidMessage, match="calls: expected tuples, mappings or messages"):
        add.enqueue_many([(1,), "text"])  # type: ignore[list-item]
    assert (before, claimed(limit=100)) == (5, [])


def test_its_messages_are_members_of_groups_and_continuations() -> None:
    barrier = api.group([add.message(1), add.message(2)], callback=tell.message("done"))
    assert [stored(one).args for one in barrier.member_ids] == [[1], [2]]
    first = add.options(on_success=[tell.message("then")]).enqueue(1)
    assert stored(first).task == "test.handles.add"


@pytest.mark.django_db(transaction=True, available_apps=["pg_queue"])
def test_it_is_enqueued_from_async_code() -> None:
    async def enqueue() -> uuid.UUID:
        found = await add.options(queue="a").aenqueue(1, right=2)
        await sync_to_async(connections.close_all)()
        return found

    message_id = asyncio.run(enqueue())
    assert (stored(message_id).queue, stored(message_id).kwargs) == ("a", {"right": 2})


@pytest.mark.django_db(transaction=True, available_apps=["pg_queue"])
def test_waiting_and_running_work_is_cancelled() -> None:
    waiting, running = add.options(delay=60).enqueue(1), add.enqueue(2)
    (claim,) = claimed()
    assert add.cancel(waiting, running, uuid.uuid4(), reason="not wanted") == {waiting, running}
    for one in (waiting, running):
        message = stored(one)
        assert message.state is api.MessageState.CANCELLED
        assert message.error is not None
        assert message.error.message.startswith("not wanted")
    assert api.store().renew([(claim.message.id, claim.token)], lease=timedelta(seconds=9)) == set()
    assert claimed() == []


WRONG = """
from pg_queue.api import TaskContext, task

@task("typed.add", max_attempts=3)
def add(left: int, right: int = 0) -> int:
    return left + right

@task
def tell(context: TaskContext, word: str) -> str:
    return word

@task("typed.wait")
async def wait(seconds: float) -> None: ...

total: int = add(1, 2)
add.enqueue(1, right=2)
add.options(queue="mail", delay=60).enqueue(left=1)
tell.enqueue("word")
wait.enqueue(0.5)

add.enqueue("1")
add.enqueue(1, wrong=2)
add.options(queue=5)
add.options(delay=5).enqueue("1")
tell.enqueue()
tell("word")
wait.message("soon")
task("typed.wrong", backoff="quadratic")
text: str = add(1, 2)
"""


def test_a_type_checker_sees_every_wrong_call_and_no_other(tmp_path: Path) -> None:
    module = tmp_path / "typed.py"
    module.write_text(WRONG)
    command = [sys.executable, "-m", "mypy", "--config-file", str(ROOT / "pyproject.toml"), str(module)]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280)
    lines = [int(line.split(":")[1]) for line in found.stdout.splitlines() if ": error:" in line]
    first = WRONG.splitlines().index('add.enqueue("1")') + 1
    assert sorted({*lines}) == list(range(first, len(WRONG.splitlines()) + 1)), found.stdout + found.stderr
