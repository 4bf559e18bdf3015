"""The guarantees of `pg_queue.results.ports.ResultStore`, by behaviour. Each store passes all of it."""

from __future__ import annotations

import json
import sys
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from pg_queue.domain import Failure, MessageState
from pg_queue.errors import PayloadNotJSON, PayloadTooLarge
from tests.contract.actions import in_threads
from tests.contract.results.hammer import BEGUN, EXECUTIONS, IDS, hammer, outcome
from tests.contract.results.harness import Harness
from tests.processes import Manage

FOR_EVER = timedelta()
FAILURE = Failure(type="ValueError", message="ä no", traceback="…\n")


def one(harness: Harness, **fields: Any) -> uuid.UUID:
    """Keep an outcome of a fresh message."""
    message_id = uuid.uuid4()
    harness.store.put([outcome(message_id, 1, **fields)])
    return message_id


class TestPut:
    def test_what_was_put_comes_back(self, harness: Harness) -> None:
        before = harness.store.now()
        success = one(harness, value=[1, "x"], attempts=3, namespace="acme:eu")
        failure = one(harness, value=None, error=FAILURE, state=MessageState.FAILED)
        after = harness.store.now()
        found = harness.store.get([success, failure, uuid.uuid4()])
        assert set(found) == {success, failure}
        assert (found[success].state, found[success].value) == (MessageState.SUCCEEDED, [1, "x"])
        assert (found[success].attempts, found[failure].attempts) == (3, 1)
        assert (found[success].namespace, found[failure].namespace) == ("acme:eu", "")
        assert (found[failure].state, found[failure].value) == (MessageState.FAILED, None)
        assert (found[success].error, found[failure].error) == (None, FAILURE)
        for result in found.values():
            assert result.finished_at is not None
            assert result.finished_at.utcoffset() == timedelta()
            assert before - timedelta(milliseconds=1) <= result.finished_at <= after + timedelta(milliseconds=1)

    @pytest.mark.parametrize(
        "value",
        [
            None,
            True,
            0,
            "",
            "ä 漢 🎼 \u2028 \\u0000 %s ' \" \\",
            -(2**63) - 1,
            10**300 + 1,
            1.5e-9,
            [],
            {"": {"a": [{}, [[[None, False]]]], "ü": "%"}},
            [list(range(2000)), "x" * 100_000, "漢" * 20_000],
        ],
        ids=lambda value: repr(value)[:12],
    )
    def test_json_comes_back_as_it_was(self, harness: Harness, value: Any) -> None:
        message_id = one(harness, value=value)
        found = harness.store.get([message_id])[message_id].value
        assert (found, json.dumps(found)) == (value, json.dumps(value))

    def test_the_same_outcome_once_more_changes_nothing(self, harness: Harness) -> None:
        message_id = one(harness, value="first")
        first = harness.store.get([message_id])[message_id]
        harness.store.put([outcome(message_id, 1, value="second", ttl=timedelta(seconds=1))] * 2)
        harness.advance(2)
        again = harness.store.get([message_id])[message_id]
        assert (again.value, again.finished_at) == ("first", first.finished_at - timedelta(seconds=2))  # type: ignore[operator]

    def test_a_later_execution_takes_the_place_whatever_its_attempt(self, harness: Harness) -> None:
        message_id = one(harness, attempts=3, state=MessageState.FAILED, value=None, error=FAILURE)
        replayed = outcome(message_id, 2, attempts=1, value="again")
        harness.store.put([replayed])
        found = harness.store.get([message_id])[message_id]
        assert (found.state, found.value, found.error, found.attempts) == (MessageState.SUCCEEDED, "again", None, 1)

    def test_of_an_id_that_two_tenants_have_chosen_the_first_one_does_not_get_what_the_seconds_task_returned(
        self, harness: Harness
    ) -> None:
        message_id = uuid.uuid4()
        harness.store.put([outcome(message_id, 1, namespace="a")])
        harness.store.put([outcome(message_id, 2, value="b's secret", namespace="b")])
        found = harness.store.get([message_id])[message_id]
        assert (found.namespace, found.value) == ("b", "b's secret")

    @pytest.mark.parametrize("state", [MessageState.FAILED, MessageState.SUCCEEDED])
    def test_an_earlier_execution_that_comes_late_changes_nothing(self, harness: Harness, state: MessageState) -> None:
        message_id = uuid.uuid4()
        harness.store.put([outcome(message_id, 2, value="true")])
        late = outcome(message_id, 1, started_at=BEGUN + timedelta(microseconds=1), state=state, attempts=9)
        harness.store.put([late])
        found = harness.store.get([message_id])[message_id]
        assert (found.state, found.value, found.attempts) == (MessageState.SUCCEEDED, "true", 2)

    def test_of_several_executions_in_one_batch_the_latest_stands(self, harness: Harness) -> None:
        message_id = uuid.uuid4()
        harness.store.put([outcome(message_id, number) for number in (2, 3, 1)])
        assert harness.store.get([message_id])[message_id].value == {"execution": 3}

    def test_a_batch_of_many_is_kept_whole(self, harness: Harness) -> None:
        ids = [uuid.uuid4() for _ in range(1203)]
        harness.store.put([outcome(message_id, 1, value=at) for at, message_id in enumerate(ids)])
        found = harness.store.get(ids)
        assert [found[message_id].value for message_id in ids] == list(range(1203))
        assert harness.store.count() == 1203

    def test_what_nobody_can_read_is_left_out_and_put_again_by_the_next_execution(self, harness: Harness) -> None:
        spoilt, whole = uuid.uuid4(), one(harness, value="whole")
        harness.store.put([outcome(spoilt, 1)])
        harness.spoil(spoilt)
        assert {i: found.value for i, found in harness.store.get([spoilt, whole]).items()} == {whole: "whole"}
        harness.store.put([outcome(spoilt, 2, value="again")])
        assert harness.store.get([spoilt])[spoilt].value == "again"

    def test_nothing_at_all_may_be_put_and_asked_for(self, harness: Harness) -> None:
        harness.store.put([])
        assert harness.store.get([]) == {}
        assert harness.store.forget([]) == 0


class TestRefusal:
    def test_a_value_above_the_bound_is_refused_with_field_bound_and_size(self, harness: Harness) -> None:
        store, message_id = harness.made(MAX_BYTES=100), uuid.uuid4()
        store.put([outcome(message_id, 1, value="x" * 98)])
        with pytest.raises(PayloadTooLarge, match=r"result: expected a result of at most 100 bytes .*, got: 101"):
            store.put([outcome(uuid.uuid4(), 1), outcome(message_id, 2, value="x" * 99)])
        with pytest.raises(PayloadTooLarge, match="got: 101"):
            store.put([outcome(message_id, 2, value="ä" * 49 + "x")])
        assert harness.store.count() == 1

    @pytest.mark.parametrize("value", ["a\x00b", {"k\x00": 1}, float("nan"), {1, 2}, "\ud800"])
    def test_what_json_cannot_hold_is_refused(self, harness: Harness, value: Any) -> None:
        with pytest.raises(PayloadNotJSON, match="result: expected"):
            one(harness, value=value)
        assert harness.store.count() == 0


class TestTimeToLive:
    def test_zero_means_for_ever(self, harness: Harness) -> None:
        by_outcome = one(harness, ttl=FOR_EVER)
        by_setting = uuid.uuid4()
        harness.made(TTL_SECONDS=0).put([outcome(by_setting, 1)])
        harness.advance(90 * 366 * 86400)
        assert harness.store.expire(limit=10) == 0
        assert set(harness.store.get([by_outcome, by_setting])) == {by_outcome, by_setting}
        assert harness.store.count() == 2

    def test_the_setting_counts_where_the_outcome_says_nothing(self, harness: Harness) -> None:
        store, own, by_setting = harness.made(TTL_SECONDS=50), uuid.uuid4(), uuid.uuid4()
        store.put([outcome(own, 1, ttl=timedelta(seconds=200)), outcome(by_setting, 1)])
        harness.advance(100)
        assert set(store.get([own, by_setting])) == {own}
        harness.advance(101)
        assert store.get([own, by_setting]) == {}

    def test_the_longest_time_to_live_can_be_kept(self, harness: Harness) -> None:
        message_id = uuid.uuid4()
        harness.made(TTL_SECONDS=100 * 366 * 86400).put([outcome(message_id, 1)])
        harness.advance(60 * 366 * 86400)
        assert set(harness.store.get([message_id])) == {message_id}

    def test_it_ends_at_its_instant_on_the_stores_clock_and_not_before(self, harness: Harness) -> None:
        ttl = timedelta(milliseconds=400)
        message_id = one(harness, ttl=ttl)
        finished_at = harness.store.get([message_id])[message_id].finished_at
        assert finished_at is not None
        slack = timedelta(milliseconds=2)  # whole milliseconds, on either side
        while True:
            asked_at = harness.store.now()
            is_there = message_id in harness.store.get([message_id])
            answered_at = harness.store.now()
            if not is_there:
                assert answered_at >= finished_at + ttl - slack
                break
            assert asked_at <= finished_at + ttl + slack

    def test_what_has_expired_is_neither_found_nor_counted_and_then_deleted(self, harness: Harness) -> None:
        ids = [one(harness, ttl=timedelta(seconds=10)) for _ in range(5)]
        stays = one(harness, ttl=timedelta(seconds=1000))
        harness.advance(20)
        assert set(harness.store.get([*ids, stays])) == {stays}
        assert harness.store.count() == 1
        assert harness.rows() == 6
        assert [harness.store.expire(limit=3) for _ in range(3)] == [3, 2, 0]
        assert (harness.rows(), harness.store.count()) == (1, 1)

    def test_a_later_execution_brings_its_own_time_to_live(self, harness: Harness) -> None:
        message_id = one(harness, ttl=timedelta(seconds=10))
        harness.store.put([outcome(message_id, 2, ttl=FOR_EVER)])
        harness.advance(20)
        assert harness.store.expire(limit=10) == 0
        assert harness.store.get([message_id])[message_id].value == {"execution": 2}

    def test_one_that_has_expired_can_be_put_anew(self, harness: Harness) -> None:
        message_id = one(harness, ttl=timedelta(seconds=10))
        harness.advance(20)
        harness.store.put([outcome(message_id, 2)])
        assert harness.store.expire(limit=10) == 0
        assert harness.store.count() == harness.rows() == 1


class TestCleanup:
    def test_it_goes_by_completion_the_oldest_first_and_no_more_than_the_limit(self, harness: Harness) -> None:
        oldest = one(harness, started_at=datetime(2031, 1, 1, tzinfo=UTC))
        harness.advance(100)
        middle = [one(harness) for _ in range(4)]
        harness.advance(100)
        recent = one(harness, started_at=datetime(2020, 1, 1, tzinfo=UTC))
        before = harness.store.now() - timedelta(seconds=50)
        assert harness.store.clear(completed_before=before, limit=1) == 1
        assert set(harness.store.get([oldest, *middle, recent])) == {*middle, recent}
        assert [harness.store.clear(completed_before=before, limit=3) for _ in range(3)] == [3, 1, 0]
        assert set(harness.store.get([oldest, *middle, recent])) == {recent}
        assert harness.store.count() == harness.rows() == 1

    def test_what_finished_again_meanwhile_stays(self, harness: Harness) -> None:
        message_id = one(harness)
        harness.advance(100)
        before = harness.store.now() - timedelta(seconds=50)
        harness.store.put([outcome(message_id, 2)])
        assert harness.store.clear(completed_before=before, limit=10) == 0
        assert harness.store.count() == 1

    def test_more_than_one_statement_takes_is_deleted_up_to_the_limit(self, harness: Harness) -> None:
        harness.store.put([outcome(uuid.uuid4(), 1, ttl=timedelta(seconds=1)) for _ in range(700)])
        harness.advance(5)
        assert [harness.store.expire(limit=600), harness.store.expire(limit=600)] == [600, 100]

    def test_forgetting_says_how_many_were_there(self, harness: Harness) -> None:
        ids = [one(harness) for _ in range(3)]
        assert harness.store.forget([*ids[:2], uuid.uuid4()]) == 2
        assert harness.store.forget(ids) == 1
        assert harness.store.count() == harness.rows() == 0


class TestContention:
    def test_eight_threads_leave_the_latest_execution_of_each_message(self, harness: Harness) -> None:
        in_threads(8, lambda number: hammer(harness.store, number))
        self.assert_latest(harness)

    @pytest.mark.processes
    def test_processes_leave_the_latest_execution_of_each_message(self, harness: Harness) -> None:
        launcher, place = Manage(None), harness.place
        environment = {
            "DJANGO_SETTINGS_MODULE": "tests.settings",
            "TEST_PG_QUEUE": json.dumps({"RESULTS": place.results}),
            "TEST_DATABASES": json.dumps(place.databases),
        }
        command = [sys.executable, "-m", "tests.contract.results.hammer"]
        try:
            processes = [launcher.launch([*command, str(seed)], env=environment) for seed in range(2)]
            for process in processes:
                assert process.wait() == 0, process.output
        finally:
            launcher.clean_up()
        self.assert_latest(harness)

    def test_what_expires_is_deleted_once_by_any_number_of_reapers(self, harness: Harness) -> None:
        harness.store.put([outcome(uuid.uuid4(), 1, ttl=timedelta(seconds=1)) for _ in range(300)])
        kept = one(harness)
        harness.advance(5)
        deleted = in_threads(4, lambda _: sum(harness.store.expire(limit=20) for _ in range(15)))
        assert sum(deleted) + harness.store.expire(limit=1000) == 300
        assert set(harness.store.get([kept])) == {kept}
        assert harness.store.count() == harness.rows() == 1

    def assert_latest(self, harness: Harness) -> None:
        """Every message has its last execution's outcome, once."""
        found = harness.store.get(IDS)
        assert {message_id: result.value for message_id, result in found.items()} == {
            message_id: {"execution": EXECUTIONS} for message_id in IDS
        }
        assert harness.store.count() == harness.rows() == len(IDS)
