"""How long a worker waits before it asks again."""

from __future__ import annotations

from pg_queue.worker.polling import Polling


def test_it_waits_until_something_is_due_but_no_longer_than_it_may() -> None:
    polling = Polling(1.0)
    assert [polling.seconds(0, due) for due in (None, 30.0, 0.3, 0.001)] == [1.0, 1.0, 0.3, 0.02]


def test_what_is_due_and_cannot_be_claimed_is_asked_for_ever_less_often() -> None:
    polling = Polling(0.1)
    assert [polling.seconds(0, 0) for _ in range(5)] == [0.02, 0.04, 0.08, 0.1, 0.1]
    polling.hear()
    assert polling.seconds(0, 0) == 0.02


def test_a_claim_that_was_given_something_begins_anew() -> None:
    polling = Polling(1.0)
    assert [polling.seconds(0, 0), polling.seconds(1, 0), polling.seconds(0, 0)] == [0.02, 0.02, 0.02]


def test_what_this_worker_ends_may_free_what_was_held_back() -> None:
    polling = Polling(1.0)
    assert not polling.is_freed(3)  # nothing was held back
    assert [polling.seconds(0, 0), polling.seconds(0, 0)] == [0.02, 0.04]
    assert not polling.is_freed(3)
    assert polling.is_freed(4)
    assert not polling.is_freed(4)
    assert polling.seconds(0, 0) == 0.02
    polling.seconds(0, None)
    assert not polling.is_freed(5)
