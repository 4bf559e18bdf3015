"""What is said of a task where it is declared: which failures are tried again, when, and what is refused."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.test import override_settings

from pg_queue import api
from pg_queue.domain import Death, Retry
from pg_queue.worker.execution import backoff, outcome_of
from tests.pg_queue.tasks.working import running, stored, work

pytestmark = pytest.mark.django_db


def seconds(policy: api.RetryPolicy, attempts: int) -> float:
    return policy.delay(attempts).total_seconds()


class Broken(Exception):
    """The root of what goes wrong here."""


class Busy(Broken):
    """A kind of it."""


class BusyForEver(Busy):
    """And a kind of that."""


def declared(**options: Any) -> api.TaskInfo:
    """A task with these options that raises the class that its argument names."""

    def fails(name: str) -> None:
        raise {"Broken": Broken, "Busy": Busy, "BusyForEver": BusyForEver, "SystemExit": SystemExit}[name]("no")

    api.task("test.policy", **options)(fails)
    return api.get_task("test.policy")


@pytest.mark.parametrize(
    ("backoff", "expected"),
    [("fixed", [4, 4, 4, 4]), ("linear", [4, 8, 12, 16]), ("exponential", [4, 8, 16, 32])],
)
def test_each_backoff_grows_in_its_way(backoff: Any, expected: list[int]) -> None:
    policy = declared(backoff=backoff, retry_backoff_seconds=4, retry_jitter=0).retry
    assert [seconds(policy, attempts) for attempts in (1, 2, 3, 4)] == expected
    assert seconds(policy, 32767) <= 3600


def test_a_jittered_delay_is_never_above_the_cap(monkeypatch: pytest.MonkeyPatch) -> None:
    policy = declared(retry_backoff_seconds=10, retry_backoff_max_seconds=11, retry_jitter=1).retry
    monkeypatch.setattr("pg_queue.tasks.policy.random.uniform", lambda least, most: most)
    assert seconds(policy, 1) == 11
    monkeypatch.setattr("pg_queue.tasks.policy.random.uniform", lambda least, most: least)
    assert seconds(policy, 1) == 10


def test_the_jitter_is_the_share_that_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    policy = declared(backoff="fixed", retry_backoff_seconds=10, retry_jitter=0.5).retry
    delays = [seconds(policy, 1) for _ in range(300)]
    assert 10 <= min(delays) < 11
    assert 14 < max(delays) <= 15


@override_settings(PG_QUEUE={"RETRY_BACKOFF_SECONDS": 2, "RETRY_BACKOFF_MAX_SECONDS": 3})
def test_what_a_task_does_not_say_is_the_settings() -> None:
    policy = declared(retry_jitter=0).retry
    assert [seconds(policy, attempts) for attempts in (1, 2, 3)] == [2, 3, 3]
    own = declared(retry_jitter=0, retry_backoff_seconds=8, retry_backoff_max_seconds=9).retry
    assert [seconds(own, attempts) for attempts in (1, 2)] == [8, 9]


@pytest.mark.parametrize(
    ("options", "retried"),
    [
        ({}, {"Broken", "Busy", "BusyForEver", "SystemExit"}),
        ({"retry_on": Busy}, {"Busy", "BusyForEver"}),
        ({"retry_on": (Busy, SystemExit)}, {"Busy", "BusyForEver", "SystemExit"}),
        ({"never_on": [Busy]}, {"Broken", "SystemExit"}),
        ({"retry_on": Broken, "never_on": BusyForEver}, {"Broken", "Busy"}),
    ],
)
def test_subclasses_count_and_never_wins(options: dict[str, Any], retried: set[str]) -> None:
    declared(**options)
    for name in ("Broken", "Busy", "BusyForEver", "SystemExit"):
        outcome = outcome_of(running("test.policy", name))
        assert isinstance(outcome, Retry if name in retried else Death), name
        assert outcome.failure.type.endswith(name)


def test_a_task_that_asks_for_a_retry_gets_one_whatever_its_policy_says() -> None:
    @api.task("test.asks", never_on=Exception)
    def asks() -> None:
        raise api.RetryLater(delay_seconds=7) from Busy("now")

    outcome = outcome_of(running("test.asks"))
    assert isinstance(outcome, Retry)
    assert outcome.delay == timedelta(seconds=7)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"max_attempts": 0}, "max_attempts: expected an integer from 1 to 32767, or None, got: 0"),
        ({"max_attempts": True}, "max_attempts: expected an integer"),
        ({"max_attempts": 2.0}, "max_attempts: expected an integer"),
        ({"backoff": "quadratic"}, "backoff: expected one of fixed, linear, exponential, got: 'quadratic'"),
        ({"backoff": None}, "backoff: expected one of"),
        ({"retry_backoff_seconds": -1}, "retry_backoff_seconds: expected a number of seconds, 0 or more, or None"),
        ({"retry_backoff_seconds": float("nan")}, "retry_backoff_seconds: expected a number of seconds"),
        ({"retry_backoff_seconds": "5"}, "retry_backoff_seconds: expected a number of seconds"),
        ({"retry_backoff_seconds": 9, "retry_backoff_max_seconds": 8}, "expected at most the 8 of"),
        ({"retry_jitter": 1.5}, "retry_jitter: expected a share from 0 to 1, got: 1.5"),
        ({"retry_jitter": None}, "retry_jitter: expected a share"),
        ({"retry_on": ()}, "retry_on: expected at least one exception class"),
        ({"retry_on": "ValueError"}, "retry_on: expected exception classes, got: 'ValueError'"),
        ({"never_on": [int]}, "never_on: expected exception classes"),
        ({"retry_on": BusyForEver, "never_on": (Busy,)}, "retry_on: expected an exception class that never_on"),
        ({"delivery": "exactly_once"}, "delivery: expected one of at_least_once, at_most_once, got: 'exactly_once'"),
        ({"delivery": "at_most_once", "max_attempts": 2}, "max_attempts: expected 1, or none"),
        ({"delivery": "at_most_once", "retry_on": Busy}, "retry_on: expected none for a task that is delivered"),
        ({"time_limit_seconds": 0}, "time_limit_seconds: expected a number of seconds, above 0, or None, got: 0"),
        ({"soft_time_limit_seconds": 5, "time_limit_seconds": 5}, "soft_time_limit_seconds: expected less than 5"),
        ({"keep_result": 1}, "keep_result: expected True or False, got: 1"),
    ],
)
def test_what_makes_no_sense_is_refused_where_it_is_declared(options: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError) as caught:
        declared(**options)
    assert str(caught.value).startswith("task 'test.policy': ")
    assert text in str(caught.value)


def test_an_unknown_option_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(TypeError, match=r"task 'test.policy': expected one of .*backoff.*, got: 'retries'"):
        declared(retries=3)


@pytest.mark.django_db(transaction=True, available_apps=["pg_queue"])
def test_a_retry_stays_in_its_queue_and_keeps_its_priority() -> None:
    declared(retry_backoff_seconds=0)
    message_id = api.enqueue("test.policy", ["Busy"], queue="mail", priority=9)
    for attempt in (1, 2, 3):
        assert work("default") == []
        assert len(work("mail")) == 1
        message = stored(message_id)
        assert (message.queue, message.priority, message.attempts) == ("mail", 9, attempt)
    assert message.state is api.MessageState.FAILED


def test_the_backoff_of_a_message_is_its_tasks() -> None:
    declared(backoff="linear", retry_backoff_seconds=3, retry_jitter=0)
    assert backoff(running("test.policy", attempts=4)) == timedelta(seconds=12)
    assert timedelta(seconds=5) <= backoff(running("test.unknown")) <= timedelta(seconds=6.25)
