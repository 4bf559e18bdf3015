"""Canvases executed by a stock `celery worker`: what their results say, from the first task to the last."""

from __future__ import annotations

import json
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import chain, chord, group
from celery.exceptions import ChordError, TaskRevokedError
from celery.result import AsyncResult, GroupResult, ResultSet
from django.db import connections
from kombu import pools

from pg_queue.celery.backend.errors import ResultTooLarge
from tests.pg_queue.celery.backend import canvas_tasks as tasks
from tests.pg_queue.celery.backend.test_waiting import until
from tests.processes import Manage, ProcessDatabase, RunningProcess

pytestmark = [pytest.mark.processes, pytest.mark.long]

PATIENCE = 60
app = tasks.app


def configuration(database: ProcessDatabase) -> dict[str, Any]:
    """The project's settings: one database for messages and results, a queue of its own."""
    return {
        "broker_url": f"downbeat+{database.url}",
        "broker_transport_options": {"visibility_timeout": 3},
        "task_default_queue": f"canvas-{uuid.uuid4().hex[:8]}",
        "result_backend": f"downbeat+{database.url}?max_result_bytes=100000",
        "result_extended": True,
        "task_track_started": True,
    }


def start_worker(manage: Manage, conf: dict[str, Any], *arguments: str) -> RunningProcess:
    """A stock worker of the project, which takes messages already."""
    command = [sys.executable, "-m", "celery", "-A", "tests.pg_queue.celery.backend.canvas_tasks", "worker"]
    env = {"TEST_CELERY": json.dumps(conf), "DJANGO_SETTINGS_MODULE": ""}
    worker = manage.launch([*command, "--loglevel=INFO", "--without-gossip", *arguments], env=env)
    worker.wait_for_line(r"celery@\S+ ready|ready\.$")
    return worker


@pytest.fixture(scope="module")
def worker(results_database: ProcessDatabase, django_db_blocker: Any) -> Iterator[RunningProcess]:
    """One worker with four processes; the tests' own app sends to it, on a connection of Django's."""
    manage, conf = Manage(results_database.url), configuration(results_database)
    app.conf.update(conf)
    with django_db_blocker.unblock():
        try:
            yield start_worker(manage, conf, "--concurrency=4")
        finally:
            app.backend.result_consumer.stop()
            app.backend.sessions.close()
            manage.clean_up()
            pools.reset()
            for alias in [one for one in connections if one.startswith("downbeat-")]:
                connections[alias].close()
                del connections[alias], connections.settings[alias]


pytestmark.append(pytest.mark.usefixtures("worker"))


def get(result: Any, **options: Any) -> Any:
    return result.get(timeout=PATIENCE, **options)


def noted(key: str) -> Any:
    """What a task noted under this key."""
    return get(AsyncResult(f"noted {key}", app=app))


def test_a_task_and_what_is_known_of_it() -> None:
    result = tasks.add.delay(2, 3)

    assert get(result) == 5
    assert (result.state, result.name, result.args, result.queue) == (
        "SUCCESS", tasks.add.name, [2, 3], app.conf.task_default_queue,
    )  # fmt: skip
    assert result.worker.startswith("celery@")


def test_an_error_with_its_traceback() -> None:
    result = tasks.fail.delay(text="why")

    with pytest.raises(tasks.Wrong, match="why"):
        get(result)
    assert "raise Wrong(text)" in result.traceback
    assert isinstance(get(result, propagate=False), tasks.Wrong)


def test_progress_and_states_on_the_way() -> None:
    key, heard = uuid.uuid4().hex, []

    def hear(meta: Any) -> None:
        heard.append((meta["status"], meta["result"]))
        if meta["status"] == "PROGRESS":
            app.backend.store_result(f"noted {key}", "heard", "SUCCESS")

    assert get(tasks.progress.delay(key), on_message=hear) == "all"

    assert heard[-2:] == [("PROGRESS", {"done": 1, "of": 2}), ("SUCCESS", "all")]


def test_retries_until_it_succeeds() -> None:
    result = tasks.at_the_third_time.delay()

    assert get(result) == 2
    assert result.retries == 2


def test_a_result_that_nobody_is_to_keep() -> None:
    result = tasks.unkept.delay(1)

    assert result.get() is None
    get(tasks.same.delay(1))
    assert not AsyncResult(result.id, app=app).exists()


def test_a_result_above_the_bound_makes_its_task_fail() -> None:
    with pytest.raises(ResultTooLarge, match="expected at most 100000 bytes"):
        get(tasks.large.delay(200_000))


def test_a_chain_and_its_parents() -> None:
    result = chain(tasks.add.s(1, 2), tasks.add.s(10), tasks.add.s(100))()

    assert get(result) == 113
    assert (get(result.parent), get(result.parent.parent)) == (13, 3)


def test_a_chain_that_breaks_tells_its_end() -> None:
    result = chain(tasks.add.s(1, 2), tasks.fail.s(), tasks.add.s(100))()

    with pytest.raises(tasks.Wrong):
        get(result)
    assert result.state == "FAILURE"
    assert get(result.parent.parent) == 3


def test_a_group_in_order_and_one_by_one() -> None:
    result = group(tasks.add.s(number) for number in range(10))()

    assert get(result) == list(range(1, 11))
    assert result.successful()
    assert sorted(meta["result"] for _, meta in result.iter_native(timeout=PATIENCE)) == list(range(1, 11))


def test_a_group_with_an_error() -> None:
    result = group(tasks.add.s(1), tasks.fail.s(), tasks.add.s(2))()

    with pytest.raises(tasks.Wrong):
        get(result)
    values = result.get(timeout=PATIENCE, propagate=False)
    assert (values[0], type(values[1]), values[2]) == (2, tasks.Wrong, 3)
    assert result.failed()


def test_a_saved_group_is_restored_by_its_id_while_it_runs() -> None:
    result = group(tasks.add.s(number) for number in range(3))()
    result.save()

    restored = GroupResult.restore(result.id, app=app)
    assert get(restored) == [1, 2, 3]
    restored.forget()
    restored.delete()
    assert not any(one.exists() for one in restored.results)
    assert GroupResult.restore(result.id, app=app) is None


def test_a_set_of_results_of_no_group() -> None:
    results = ResultSet([tasks.add.delay(number) for number in range(3)], app=app)

    assert get(results) == [1, 2, 3]


@pytest.mark.parametrize("size", [0, 1, 2, 25])
def test_a_chord(size: int) -> None:
    result = chord((tasks.add.s(number) for number in range(size)), tasks.total.s())()

    assert get(result) == sum(range(1, size + 1))


def test_a_chord_of_a_lazy_header() -> None:
    result = chord(group(tasks.add.s(number) for number in iter(range(5))))(tasks.total.s())

    assert get(result) == 15


def test_a_chord_whose_members_keep_no_results() -> None:
    result = chord([tasks.unkept.s(3), tasks.unkept.s(4)], tasks.total.s())()

    assert get(result) == 7


def test_a_chord_with_an_error_names_the_member_and_calls_the_error_callbacks() -> None:
    key = uuid.uuid4().hex
    body = tasks.total.s().on_error(tasks.noted_error.s(key=key))
    result = chord([tasks.add.s(1), tasks.fail.s(text="broken"), tasks.add.s(2)], body)()

    with pytest.raises(ChordError, match=r"Dependency \S+ raised Wrong\('broken'\)"):
        get(result, follow_parents=False)
    assert noted(key)[0] == result.id


def test_a_chord_inside_of_a_chord() -> None:
    inner = chord([tasks.add.s(1), tasks.add.s(2)], tasks.total.s())
    result = chord([inner, tasks.add.s(10)], tasks.total.s())()

    assert get(result) == 2 + 3 + 11


def test_chords_in_a_row() -> None:
    steps = chain(
        group(tasks.add.s(1), tasks.add.s(2)),
        tasks.total.s(),
        group(tasks.add.s(10), tasks.add.s(20)),
        tasks.total.s(),
        tasks.add.s(100),
    )

    assert get(steps()) == 5 + 10 + 5 + 20 + 100


def test_a_group_at_the_end_of_a_chain_in_a_header_keeps_its_shape() -> None:
    header = [tasks.same.s(1), chain(tasks.same.si(0), group(tasks.same.si(2), tasks.same.si(3))), tasks.same.s(4)]

    assert get(chord(header, tasks.same.s())()) == [1, [2, 3], 4]


def test_a_chain_in_a_header() -> None:
    result = chord([chain(tasks.add.s(1), tasks.add.s(10)), tasks.add.s(2)], tasks.total.s())()

    assert get(result) == 12 + 3


def test_a_chain_that_breaks_in_a_header_fails_the_chord() -> None:
    result = chord([chain(tasks.add.s(1), tasks.fail.s(), tasks.add.s(1)), tasks.add.s(2)], tasks.total.s())()

    with pytest.raises(ChordError, match="Wrong"):
        get(result, follow_parents=False)


def test_a_group_as_a_body() -> None:
    result = chord([tasks.add.s(1), tasks.add.s(2)], group(tasks.total.s(), tasks.same.s()))()

    assert get(result) == [5, [2, 3]]


def test_a_chord_that_a_task_begins() -> None:
    value = get(tasks.begins_a_chord.delay([1, 2]))

    assert get(AsyncResult(value[0][0], app=app)) == 5


@pytest.mark.parametrize(
    ("sig", "value"),
    [
        (lambda: tasks.replaced_by.s(tasks.add.s(1, 2)), 3),
        (lambda: tasks.replaced_by.s(chain(tasks.add.s(1, 2), tasks.add.s(3))), 6),
        (lambda: tasks.replaced_by_group.s([1, 2]), [2, 3]),
        (lambda: tasks.replaced_by_chord.s([1, 2]), 5),
    ],
)
def test_a_task_that_is_replaced_has_the_replacements_result(sig: Any, value: Any) -> None:
    assert get(sig().delay()) == value
    assert get(chain(sig(), tasks.same.s())()) == value
    assert get(chord([sig(), tasks.same.s("other")], tasks.same.s())()) == [value, "other"]


def test_callbacks_of_a_success_and_of_an_error() -> None:
    key = uuid.uuid4().hex
    get(tasks.add.apply_async((1, 2), link=tasks.noted.s(key=f"{key} a")))
    assert noted(f"{key} a") == 3

    result = tasks.fail.apply_async(link_error=tasks.noted_error.s(key=f"{key} b"))
    with pytest.raises(tasks.Wrong):
        get(result)
    assert noted(f"{key} b") == [result.id, "Wrong('on purpose')"]


def test_a_groups_error_callback_and_a_chords_link() -> None:
    key = uuid.uuid4().hex
    chord([tasks.add.s(1), tasks.add.s(2)], tasks.total.s(), link=tasks.noted.s(key=key))()

    assert noted(key) == 5


def test_children_are_followed_to_the_leaves() -> None:
    result = tasks.add.apply_async((1, 2), link=[tasks.add.s(10), tasks.add.s(20)])

    get(result)
    for child in result.children[0].results:
        get(child)
    values = [value for _, value in result.collect(timeout=PATIENCE) if not isinstance(value, list)]
    assert sorted(values) == [3, 13, 23]


def test_where_a_task_came_from() -> None:
    result = chain(tasks.same.si(), group(tasks.who.si(), tasks.who.si()))()

    for told in get(result):
        assert (told[1], told[2]) == (result.parent.id, result.parent.id)


def test_a_revoked_task_says_so() -> None:
    result = tasks.add.apply_async((1, 2), countdown=2)
    result.revoke()

    with pytest.raises(TaskRevokedError):
        get(result)


def test_what_is_forgotten_is_gone() -> None:
    result = tasks.add.delay(1, 2)
    assert get(result) == 3

    result.forget()

    assert not AsyncResult(result.id, app=app).exists()


def test_nothing_polls_for_the_ends_of_chords(worker: RunningProcess) -> None:
    result = chord([tasks.add.s(1), tasks.add.s(2)], tasks.total.s())()
    assert get(result) == 5

    worker.wait_for_line(rf"Task {tasks.total.name}\[{result.id}\] succeeded")
    assert "chord_unlock" not in worker.output


def test_a_chord_whose_workers_are_killed_calls_back_once(results_database: ProcessDatabase, tmp_path: Path) -> None:
    """Members are executed again (`acks_late`), some that had ended already too: each is counted once."""
    manage, conf = Manage(results_database.url), configuration(results_database) | {"worker_prefetch_multiplier": 1}
    try:
        first = start_worker(manage, conf, "--concurrency=3", "--hostname=first@%h")
        queue = conf["task_default_queue"]
        header = [tasks.once_more.s(number, str(tmp_path)).set(queue=queue) for number in range(6)]
        result = chord(header, tasks.counted.s(folder=str(tmp_path)).set(queue=queue)).apply_async(queue=queue)
        until(lambda: len(list(tmp_path.glob("member-*"))) >= 4)
        first.kill(group=True)
        start_worker(manage, conf, "--concurrency=3", "--hostname=second@%h")

        assert get(result, follow_parents=False) == list(range(6))
        time.sleep(1)
        assert len(list(tmp_path.glob("callback.*"))) == 1
        assert len(list(tmp_path.glob("member-*"))) > 6, "some were executed twice"
    finally:
        manage.clean_up()
