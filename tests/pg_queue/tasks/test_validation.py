"""Arguments and results that are checked by type hints."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import pytest
from pydantic import BaseModel, Field

from pg_queue import api
from pg_queue.api import TaskContext, task
from pg_queue.checks import check_task_hints
from pg_queue.domain import Death, Retry, Success
from pg_queue.tasks import registry
from pg_queue.worker.execution import outcome_of
from tests.pg_queue.tasks.working import running, stored, work

if TYPE_CHECKING:
    from tests.pg_queue.tasks.nowhere import Unknown  # type: ignore[import-not-found]

pytestmark = pytest.mark.django_db
NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)


class Colour(StrEnum):
    """Of what is ordered."""

    RED = "red"


@dataclass
class Item:
    """A line of an order."""

    price: Decimal
    colour: Colour = Colour.RED


class Order(BaseModel):
    """What is ordered."""

    items: list[Item]
    due: date | None = None
    count: Annotated[int, Field(ge=1)] = 1


seen: list[Any] = []


def book(
    context: TaskContext, order: Order, when: datetime, *tags: int, owner: uuid.UUID | None = None, **more: float
) -> None:
    """Note what it was given."""
    seen.append((order, when, tags, owner, more))


@pytest.fixture(autouse=True)
def _task() -> None:
    task("test.book", validate="inputs")(book)
    seen.clear()


ORDER = {"items": [{"price": "9.50"}], "due": "2030-01-02"}


@pytest.mark.django_db(transaction=True, available_apps=["pg_queue"])
def test_arguments_are_stored_as_json_and_reach_the_function_as_its_hints_say() -> None:
    owner = uuid.uuid4()
    parts = Order(items=[Item(Decimal("9.50"))], due=date(2030, 1, 2))
    ids = [
        api.enqueue("test.book", [ORDER, "2030-01-01T12:00:00Z", 1, 2], {"owner": str(owner), "weight": 1}),
        api.enqueue("test.book", [parts, NOON, 1, 2], {"owner": owner, "weight": 1.0}),
    ]
    assert stored(ids[0]).args[:2] == [ORDER, "2030-01-01T12:00:00Z"]
    assert stored(ids[1]).args[1:] == ["2030-01-01T12:00:00Z", 1, 2]
    assert stored(ids[1]).kwargs == {"owner": str(owner), "weight": 1.0}
    work()
    assert seen == [(parts, NOON, (1, 2), owner, {"weight": 1.0})] * 2


@pytest.mark.parametrize(
    ("args", "kwargs", "text"),
    [
        ([ORDER, "soon"], {}, "args: expected when to be a valid datetime, input is too short, got: 'soon'"),
        ([ORDER, 5], {}, "args: expected when to be a valid datetime, got: 5"),
        (["x", NOON], {}, "args: expected order to be an object, got: 'x'"),
        ([{}, NOON], {}, "args: expected a valid order.items (Field required), got: {}"),
        (
            [{"items": [{"price": "9"}, {"price": "x"}]}, NOON],
            {},
            "args: expected order.items[1].price to be a valid decimal, got: 'x'",
        ),
        (
            [{"items": [], "count": 0}, NOON],
            {},
            "args: expected order.count to be greater than or equal to 1, got: 0",
        ),
        ([{"items": [{"price": 1, "colour": "blue"}]}, NOON], {}, "args: expected order.items[0].colour to be 'red'"),
        ([ORDER, NOON, 1, "2"], {}, "args: expected tags[1] to be a valid integer, got: '2'"),
        ([ORDER, NOON], {"owner": "me"}, "kwargs: expected owner to be a valid UUID"),
        ([ORDER, NOON], {"weight": "much"}, "kwargs: expected weight to be a valid number, got: 'much'"),
        ([ORDER], {}, "args: expected the arguments of test.book(order: 'Order', when: 'datetime', *tags: 'int', "),
        ([ORDER, NOON], {"order": 1}, "args: expected the arguments of test.book("),
        ([ORDER, object()], {}, "args: expected when to be what JSON can hold (Unable to serialize unknown type"),
        ([{"items": 5, "due": 6}, NOON], {}, "args: expected order.items to be a valid array (and 1 more), got: 5"),
    ],
)
def test_a_wrong_argument_is_refused_where_it_is_enqueued_by_its_name(args: Any, kwargs: Any, text: str) -> None:
    with pytest.raises(api.InvalidArguments) as caught:
        api.enqueue("test.book", args, kwargs)
    assert str(caught.value).startswith(text)
    with pytest.raises((api.InvalidArguments, api.PayloadNotJSON)):
        api.validate_payload(args, kwargs, task="test.book")


def test_in_a_continuation_the_way_to_it_is_named() -> None:
    late = api.NewMessage(task="test.book", args=[ORDER, "soon"])
    with pytest.raises(api.InvalidArguments, match=r"^on_success\[0\].args: expected when to be a valid datetime"):
        api.enqueue("noop", on_success=[late])


def test_what_is_no_payload_at_all_is_refused_as_ever() -> None:
    with pytest.raises(api.PayloadNotJSON, match=r"^args: expected a list or tuple"):
        api.enqueue("test.book", "text")


@pytest.mark.django_db(transaction=True, available_apps=["pg_queue"])
def test_what_got_in_all_the_same_is_dead_at_once_and_not_run() -> None:
    message_id = api.store().enqueue([api.NewMessage(task="test.book", args=[ORDER, "soon"], max_attempts=9)])[0]
    work()
    message = stored(message_id)
    assert (message.state, message.attempts) == (api.MessageState.FAILED, 1)
    assert message.error is not None
    assert message.error.type == "task.invalid_arguments"
    assert message.error.message.startswith("args: expected when to be a valid datetime")
    assert seen == []


def test_an_invalid_enqueue_inside_a_task_is_that_tasks_error_and_no_death() -> None:
    @task("test.outer")
    def outer() -> None:
        api.enqueue("test.book", [ORDER, "soon"])

    outcome = outcome_of(running("test.outer"))
    assert isinstance(outcome, Retry)
    assert outcome.failure.type.endswith("InvalidArguments")


@pytest.mark.parametrize(("validate", "is_checked"), [("outputs", True), ("strict", True), ("inputs", False)])
def test_results_are_checked_where_it_says_so(validate: Any, is_checked: bool) -> None:
    @task("test.result", validate=validate)
    def gives(what: str) -> list[Item]:
        return {"right": [Item(Decimal("1.5"))], "text": ["x"], "dict": [{"price": 1}]}[what]  # type: ignore[return-value]

    right = outcome_of(running("test.result", "right"))
    wrong = [outcome_of(running("test.result", what)) for what in ("text", "dict")]
    if is_checked:
        assert right == Success(value=[{"price": "1.5", "colour": "red"}])
        assert [one.failure.type for one in wrong if isinstance(one, Death)] == ["task.invalid_result"] * 2
        assert isinstance(wrong[0], Death)
        assert wrong[0].failure.message == "result: expected it[0] to be an instance of Item, got: 'x'"
    else:
        assert isinstance(right, Death)
        assert right.failure.type == "task.result_not_json"
        assert wrong == [Success(value=["x"]), Success(value=[{"price": 1}])]


@pytest.mark.parametrize(("validate", "is_checked"), [("outputs", False), ("strict", True)])
def test_arguments_are_checked_where_it_says_so(validate: Any, is_checked: bool) -> None:
    @task("test.argument", validate=validate)
    def takes(value: int) -> str:
        return str(value)

    if is_checked:
        with pytest.raises(api.InvalidArguments):
            takes.enqueue("5")  # type: ignore[arg-type]
    else:
        assert stored(takes.enqueue("5")).args == ["5"]  # type: ignore[arg-type]


def test_an_async_task_is_checked_both_ways() -> None:
    @task("test.async", validate="strict")
    async def later(when: datetime) -> int:
        return when.year if when < NOON else "never"  # type: ignore[return-value]

    assert outcome_of(running("test.async", "2029-01-01T00:00:00Z")) == Success(value=2029)
    for argument, kind in (("2031-01-01T00:00:00Z", "task.invalid_result"), (5, "task.invalid_arguments")):
        outcome = outcome_of(running("test.async", argument))
        assert isinstance(outcome, Death)
        assert outcome.failure.type == kind


def test_a_result_may_be_of_a_type_that_json_lacks() -> None:
    @task("test.result", validate="outputs")
    def now() -> tuple[datetime, set[int]]:
        return NOON, {1}

    assert outcome_of(running("test.result")) == Success(value=["2030-01-01T12:00:00Z", [1]])


def test_without_validation_nothing_is_checked_and_nothing_converted() -> None:
    @task("test.plain")
    def takes(when: datetime) -> int:
        return when  # type: ignore[return-value]

    assert outcome_of(running("test.plain", "soon")) == Success(value="soon")
    with pytest.raises(api.PayloadNotJSON):
        takes.enqueue(NOON)


def test_hints_for_nothing_that_is_to_be_checked_are_refused() -> None:
    def bare(value):  # type: ignore[no-untyped-def]
        """Have no hints."""

    with pytest.raises(ValueError, match=r"task 'test.bare': validate: expected a function whose parameters have"):
        task("test.bare", validate="inputs")(bare)
    with pytest.raises(ValueError, match=r"task 'test.bare': validate: expected a function with a type hint for what"):
        task("test.bare", validate="outputs")(bare)
    with pytest.raises(ValueError, match=r"validate: expected one of none, inputs, outputs, strict, got: 'all'"):
        task("test.bare", validate="all")(bare)  # type: ignore[call-overload]


def test_hints_that_cannot_be_read_are_said_by_the_checks_and_where_they_are_used() -> None:
    @task("test.unknown", validate="inputs")
    def takes(value: Unknown) -> None:
        """Do nothing."""

    with pytest.raises(api.Configuration, match=r"task 'test.unknown': validate: expected type hints that can be read"):
        api.enqueue("test.unknown", [1])
    (error,) = check_task_hints()
    assert error.id == "pg_queue.E009"
    assert "name 'Unknown' is not defined" in error.msg
    del registry._registered["test.unknown"]
    assert check_task_hints() == []


def test_without_pydantic_the_declaration_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pydantic", None)
    with pytest.raises(api.Configuration, match=r"task 'test.book': validate: .*pip install 'django-downbeat\[valid"):
        task("test.book", validate="strict")(book)
    task("test.other")(book)


def test_pydantic_is_not_imported_by_who_does_not_use_it(manage_python: Any) -> None:
    code = "import django; django.setup(); import pg_queue.api, sys; print('pydantic' in sys.modules)"
    assert manage_python(code) == "False"


@pytest.fixture
def manage_python() -> Any:
    """Runs code in a new interpreter; what it printed."""

    def run(code: str) -> str:
        env = {**os.environ, "DJANGO_SETTINGS_MODULE": "backend.settings"}
        return subprocess.run(
            [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True
        ).stdout.strip()

    return run
