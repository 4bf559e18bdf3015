"""Chords are counted in the database: each member once, the callback once."""

from __future__ import annotations

import random
import threading
from concurrent.futures import ThreadPoolExecutor
from queue import Empty
from types import SimpleNamespace
from typing import Any

import pytest
from celery import states, uuid
from celery.exceptions import ChordError
from celery.result import AsyncResult, GroupResult

from pg_queue.celery.backend import backend as backend_module
from pg_queue.celery.backend import closing
from pg_queue.celery.backend.errors import ResultTooLarge
from tests.pg_queue.celery.backend.conftest import MakeApp
from tests.processes import ProcessDatabase


class Chord:
    """A chord as `apply_async` and its members' workers tell the backend of it; what it sends stays in memory."""

    def __init__(self, app: Any, size: int | None = 3, *, results: list[Any] | None = None, body: Any = None) -> None:
        self.app = app
        self.id = uuid()
        self.members = [AsyncResult(uuid(), app=app) for _ in range(size or 0)]
        self.body = app.signature("collect") if body is None else body
        self.body.freeze(uuid())
        app.backend.apply_chord((self.id, results or self.members), self.body)
        if size is not None:
            app.backend.set_chord_size(self.id, size)

    def end(
        self, number: int, result: Any = None, state: str = states.SUCCESS, *, app: Any = None, **kwargs: Any
    ) -> None:
        """A worker has executed this member."""
        self.end_as(self.members[number].id, number, result, state, app=app or self.app, **kwargs)

    def end_as(
        self, task_id: str, position: int | None, result: Any, state: str = states.SUCCESS, *, app: Any = None
    ) -> None:
        request = SimpleNamespace(id=task_id, group=self.id, group_index=position, chord=dict(self.body))
        (app or self.app).backend.on_chord_part_return(request, state, result)


@pytest.fixture
def app(make_app: MakeApp) -> Any:
    """What it publishes stays in a queue of its own, in memory."""
    return make_app(task_default_queue=f"sent_{uuid()}")


def sent(app: Any) -> list[Any]:
    """The tasks that were published since, each as its id and arguments."""
    taken = []
    with app.connection_for_read() as connection:
        queue = connection.SimpleQueue(app.conf.task_default_queue)
        while True:
            try:
                message = queue.get(block=False)
            except Empty:
                return taken
            message.ack()
            taken.append((message.headers["id"], *message.payload[0]))


def later(database: ProcessDatabase, seconds: float) -> None:
    """As if so much time had passed since the claims were made."""
    with database.connect() as session:
        session.execute(
            "UPDATE pg_queue_celerychord SET claim_until = claim_until - make_interval(secs => %s)", [seconds]
        )


def test_the_last_member_sends_the_callback_with_all_results_in_the_headers_order(app: Any) -> None:
    chord = Chord(app, 3)

    chord.end(2, "c")
    chord.end(0, ["a"])
    assert sent(app) == []
    chord.end(1, None)

    assert sent(app) == [(chord.body.id, [["a"], None, "c"])]


def test_a_member_that_is_executed_twice_counts_once(app: Any) -> None:
    chord = Chord(app, 3)

    for _ in range(4):
        chord.end(0, "a")
    chord.end(1, "b")
    assert sent(app) == []
    chord.end(2, "c")

    assert sent(app) == [(chord.body.id, ["a", "b", "c"])]


def test_a_member_that_is_executed_again_after_the_end_sends_nothing_more(app: Any) -> None:
    chord = Chord(app, 2)
    chord.end(0)
    chord.end(1)
    assert len(sent(app)) == 1

    chord.end(1, "late")
    chord.end(0, ValueError("late"), states.FAILURE)

    assert sent(app) == []
    assert AsyncResult(chord.body.id, app=app).state == states.PENDING


def test_an_execution_that_succeeds_makes_up_for_one_that_failed(app: Any) -> None:
    chord = Chord(app, 2)

    chord.end(0, ValueError("its worker was lost"), states.FAILURE)
    chord.end(0, "a")
    chord.end(0, ValueError("and once more"), states.FAILURE)
    chord.end(1, "b")

    assert sent(app) == [(chord.body.id, ["a", "b"])]


@pytest.mark.parametrize("twice", [False, True])
def test_of_workers_that_end_the_last_members_at_one_time_one_sends(app: Any, make_app: MakeApp, twice: bool) -> None:
    workers = [app, make_app(task_default_queue=app.conf.task_default_queue)]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(6):
            chord = Chord(app, 8)
            together = threading.Barrier(8)
            executions = [*range(4), *range(4)] if twice else [*range(8)]

            def end(place: int, chord: Chord = chord, together: Any = together, executions: Any = executions) -> None:
                together.wait(20)
                chord.end(executions[place], executions[place], app=workers[place % 2])

            for ended in [pool.submit(end, place) for place in range(8)]:
                ended.result(timeout=60)
            if twice:
                assert sent(app) == []
                for number in range(4, 8):
                    chord.end(number, number)
            assert sent(app) == [(chord.body.id, list(range(8)))]


def test_a_failed_member_fails_the_chord_when_all_have_ended(app: Any) -> None:
    chord = Chord(app, 3, body=app.signature("collect", link_error=[app.signature("tell", immutable=False)]))
    chord.end(0, "a")
    chord.end(1, KeyError("gone"), states.FAILURE)
    assert AsyncResult(chord.body.id, app=app).state == states.PENDING
    chord.end(2, "c")

    with pytest.raises(ChordError, match=rf"Dependency {chord.members[1].id} raised KeyError\('gone'\)"):
        AsyncResult(chord.body.id, app=app).get(timeout=5)
    assert [arguments for _, *arguments in sent(app)] == [[chord.body.id]], "only its error callback"


def test_a_revoked_member_fails_the_chord(app: Any) -> None:
    chord = Chord(app, 1)
    chord.app.backend.mark_as_revoked(
        chord.members[0].id,
        "terminated",
        SimpleNamespace(
            id=chord.members[0].id, group=chord.id, group_index=0, chord=dict(chord.body), children=[], parent_id=None
        ),
    )

    with pytest.raises(ChordError, match="TaskRevokedError"):
        AsyncResult(chord.body.id, app=app).get(timeout=5)


def test_a_nested_header_gives_nested_results(app: Any) -> None:
    one, two, three = (AsyncResult(uuid(), app=app) for _ in range(3))
    chord = Chord(app, None, results=[one, GroupResult(uuid(), [two, three], app=app)])
    app.backend.set_chord_size(chord.id, 3)

    chord.end_as(three.id, 1, 3)
    chord.end_as(one.id, 0, 1)
    chord.end_as(two.id, 0, 2)

    assert sent(app) == [(chord.body.id, [1, [2, 3]])]


def test_members_without_a_place_come_last_in_the_order_of_their_end(app: Any) -> None:
    chord = Chord(app, None)
    app.backend.set_chord_size(chord.id, 3)

    chord.end_as(uuid(), None, "second")
    chord.end_as(uuid(), None, "third")
    chord.end_as(uuid(), 0, "first")

    assert sent(app) == [(chord.body.id, ["first", "second", "third"])]


def test_one_task_that_is_in_the_header_twice_counts_twice(app: Any, task_id: str) -> None:
    chord = Chord(app, 2)

    chord.end_as(task_id, 0, "a")
    chord.end_as(task_id, 1, "a")

    assert sent(app) == [(chord.body.id, ["a", "a"])]


def test_members_that_end_before_all_are_sent_wait_for_the_others(app: Any) -> None:
    chord = Chord(app, None)
    chord.members = [AsyncResult(uuid(), app=app) for _ in range(2)]
    chord.end(0, "a")
    assert sent(app) == []

    app.backend.set_chord_size(chord.id, 2)
    chord.end(1, "b")

    assert sent(app) == [(chord.body.id, ["a", "b"])]


def test_a_member_that_is_added_is_waited_for(app: Any) -> None:
    chord = Chord(app, 1)
    app.backend.add_to_chord(chord.id, None)
    chord.end(0, "a")
    assert sent(app) == []

    chord.end_as(uuid(), 1, "added")

    assert sent(app) == [(chord.body.id, ["a", "added"])]


def test_a_chord_that_is_applied_once_more_counts_from_the_beginning(app: Any) -> None:
    chord = Chord(app, 2)
    for _ in range(2):
        chord.app.backend.apply_chord((chord.id, chord.members), chord.body)
        app.backend.set_chord_size(chord.id, 2)
        chord.end(0, "a")
        assert sent(app) == []
        chord.end(1, "b")
        assert sent(app) == [(chord.body.id, ["a", "b"])]


def test_a_worker_that_dies_before_it_sends_leaves_the_callback_to_another(
    app: Any, make_app: MakeApp, results_database: ProcessDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    chord = Chord(app, 2)
    chord.end(0, "a")
    with monkeypatch.context() as patch:
        patch.setattr(backend_module, "close_chord", lambda *_: None)  # here its process ends
        chord.end(1, "b")
    other = make_app(task_default_queue=app.conf.task_default_queue)

    assert closing.recover_chords(other.backend) == 0, "its claim holds for a while"
    chord.end(1, "b")
    assert sent(app) == []
    later(results_database, 60)
    assert closing.recover_chords(other.backend) == 1

    assert sent(app) == [(chord.body.id, ["a", "b"])]
    assert closing.recover_chords(other.backend) == 0


def test_a_member_that_is_delivered_again_takes_the_claim_of_a_dead_worker_over(
    app: Any, results_database: ProcessDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    chord = Chord(app, 1)
    with monkeypatch.context() as patch:
        patch.setattr(backend_module, "close_chord", lambda *_: None)
        chord.end(0, "a")
    later(results_database, 60)

    chord.end(0, "a")

    assert sent(app) == [(chord.body.id, ["a"])]


def test_who_was_replaced_while_it_slept_sends_nothing(
    app: Any, results_database: ProcessDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    chord, claims = Chord(app, 1), []
    with monkeypatch.context() as patch:
        patch.setattr(backend_module, "close_chord", lambda _, claim, body: claims.append(claim))
        chord.end(0, "a")
    later(results_database, 60)
    closing.recover_chords(app.backend)
    assert len(sent(app)) == 1

    closing.close_chord(app.backend, claims[0], chord.body)

    assert sent(app) == []


def test_a_callback_that_cannot_be_sent_fails_the_chord(app: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    chord = Chord(app, 1)
    monkeypatch.setattr(app.amqp, "_retry_publish", lambda *_: 1 / 0)
    chord.end(0, "a")

    with pytest.raises(ChordError, match="Callback error: ZeroDivisionError"):
        AsyncResult(chord.body.id, app=app).get(timeout=5)


def test_a_members_result_above_the_bound_is_refused_and_its_error_is_counted(make_app: MakeApp) -> None:
    app = make_app(query="max_result_bytes=1500", task_default_queue=f"sent_{uuid()}")
    chord = Chord(app, 1)

    with pytest.raises(ResultTooLarge):
        chord.end(0, "x" * 2000)
    chord.end(0, ValueError("x" * 2000), states.FAILURE)

    with pytest.raises(ChordError, match="raised ValueError"):
        AsyncResult(chord.body.id, app=app).get(timeout=5)


def test_a_chord_of_many_members_leaves_one_row(app: Any, results_database: ProcessDatabase) -> None:
    chord = Chord(app, 200)
    order = list(range(200))
    random.Random(7).shuffle(order)

    for number in order:
        chord.end(number, number)

    assert sent(app) == [(chord.body.id, list(range(200)))]
    with results_database.connect() as session:
        rows = session.execute("SELECT state, counted FROM pg_queue_celerychord WHERE group_id = %s", [chord.id])
        assert rows.fetchall() == [("done", 200)]
        parts = session.execute("SELECT count(*) FROM pg_queue_celerychordpart WHERE group_id = %s", [chord.id])
        assert parts.fetchone() == (0,)


def test_what_is_left_of_a_chord_goes_with_its_time(app: Any, results_database: ProcessDatabase) -> None:
    done, open_ = Chord(app, 1), Chord(app, 2)
    done.end(0)
    open_.end(0)
    with results_database.connect() as session:
        left = dict(
            session.execute(
                "SELECT group_id, expires_at - now() > '10 days' FROM pg_queue_celerychord WHERE group_id = ANY (%s)",
                [[done.id, open_.id]],
            ).fetchall()
        )
        assert left == {done.id: False, open_.id: True}, "an open one is not given up before any result"
        session.execute("UPDATE pg_queue_celerychord SET expires_at = now()")
        app.backend.cleanup()

        for table in ("pg_queue_celerychord", "pg_queue_celerychordpart"):
            assert session.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,)
