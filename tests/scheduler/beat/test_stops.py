"""A stop that comes between a claim and its settling is put off."""

from __future__ import annotations

import signal
import threading

import pytest

from scheduler.beat.stops import stops_put_off


def test_a_stop_takes_effect_at_the_end_of_the_block(handled: list[int]) -> None:
    reached = []

    def work() -> None:
        with stops_put_off():
            signal.raise_signal(signal.SIGTERM)
            reached.append(not handled)

    with pytest.raises(SystemExit):
        work()
    assert (reached, handled) == ([True], [signal.SIGTERM])


def test_a_second_stop_takes_effect_at_once(handled: list[int]) -> None:
    reached = []

    def work() -> None:
        with stops_put_off():
            signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGINT)
            reached.append(True)

    with pytest.raises(SystemExit):
        work()
    assert (reached, handled[0]) == ([], signal.SIGINT)


def test_without_a_stop_the_handlers_are_as_before(handled: list[int]) -> None:
    before = signal.getsignal(signal.SIGTERM)
    with stops_put_off(), stops_put_off():
        assert signal.getsignal(signal.SIGTERM) is not before
    assert signal.getsignal(signal.SIGTERM) is before


def test_beside_the_main_thread_it_does_nothing(handled: list[int]) -> None:
    before, seen = signal.getsignal(signal.SIGTERM), []

    def look() -> None:
        with stops_put_off():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert seen == [before]
