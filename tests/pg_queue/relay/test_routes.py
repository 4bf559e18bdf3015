"""`PG_QUEUE["ROUTES"]` is validated as it is read, and says of each queue where it leads."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from pg_queue.checks import check_queue_settings
from pg_queue.errors import Configuration
from pg_queue.relay.targets import target_of
from pg_queue.settings import parse
from pg_queue.storage.capable import Capable

STORES = {"default": {}, "other": {"NAMESPACE": "other"}}
APP = {"CELERY": "backend.celery.app"}


@pytest.mark.parametrize(
    ("routes", "said"),
    [
        ({"a b": APP}, r"'ROUTES'\]: expected names of queues, or '\*' for all others, got: 'a b'"),
        ({"a": "other"}, r"'ROUTES'\]\['a'\]: expected \{'STORE': alias\} or .*got: 'other'"),
        ({"a": {}}, r"expected \{'STORE': alias\} or"),
        ({"a": {"STORE": "other", "QUEUE": "b"}}, r"expected \{'STORE': alias\} or"),
        ({"a": {"STORE": "other", **APP}}, r"expected \{'STORE': alias\} or"),
        ({"a": {"QUEUE": "b"}}, r"expected \{'STORE': alias\} or"),
        ({"a": {"STORE": "nowhere"}}, r"'a'\]: expected a store among default, other .*got: 'nowhere'"),
        ({"a": {"CELERY": 1}}, r"\['a'\]\['CELERY'\]: expected a text, got: 1"),
        ({"a": {"CELERY": ""}}, r"\['CELERY'\]: expected a text, got: ''"),
        ({"a": {"CELERY": "proj celery"}}, "expected the dotted path of a Celery app, such as 'proj.celery.app'"),
        ({"a": {"CELERY": f"proj.{'x' * 120}"}}, "a target's name of at most"),
        ({"a": {**APP, "QUEUE": None}}, r"\['QUEUE'\]: expected a text, got: None"),
    ],
)
def test_a_wrong_route_is_refused_by_name(routes: Any, said: str) -> None:
    with pytest.raises(Configuration, match=said):
        parse({"STORES": STORES, "ROUTES": routes})


def test_a_queues_own_route_counts_before_that_of_all_queues() -> None:
    routes = {"*": APP, "stays": {"STORE": "default"}, "foreign": {"STORE": "other"}}
    routing = parse({"STORES": STORES, "ROUTES": routes}).routing
    assert [routing.topic_of(queue) for queue in ("any", "stays", "foreign")] == [
        "relay:celery:backend.celery.app",
        None,
        "relay:store:other",
    ]
    assert routing.topics == ["relay:celery:backend.celery.app", "relay:store:other"]


@pytest.mark.parametrize("routes", [None, {}, {"*": {"STORE": "default"}}])
def test_without_a_route_that_leads_elsewhere_nothing_leaves(routes: Any) -> None:
    routing = parse({"ROUTES": routes}).routing
    assert not routing
    assert routing.topic_of("any") is None


@pytest.mark.parametrize(
    ("route", "said"),
    [
        ({"CELERY": "nowhere.app"}, "expected a Celery app at 'nowhere.app'"),
        ({"CELERY": "tests.pg_queue.relay.broken.app"}, "got: RuntimeError: half of a deployment"),
        ({"CELERY": "pg_queue.api.enqueue"}, "expected a Celery app at"),
        ({"STORE": "keyless"}, "expected a store that has 'keys'"),
    ],
)
def test_a_system_check_names_a_route_that_leads_nowhere(settings: Any, route: Any, said: str) -> None:
    stores = {"default": {}, "keyless": {"BACKEND": "tests.pg_queue.relay.test_routes.Keyless"}}
    settings.PG_QUEUE = {"STORES": stores, "ROUTES": {"away": route}}
    (error,) = check_queue_settings()
    assert (error.id, said in error.msg) == ("pg_queue.E006", True)
    settings.PG_QUEUE = {"ROUTES": {"away": APP}}
    assert check_queue_settings() == []


class Keyless(Capable):
    """A store that would keep a repetition as a second message."""

    def __init__(self, conf: Any, place: Any) -> None:
        super().__init__(place)


def test_a_row_of_the_outbox_alone_imports_nothing(settings: Any) -> None:
    settings.PG_QUEUE = {"ROUTES": {"away": APP}}
    target_of("relay:celery:backend.celery.app").close()
    for topic in ("relay:celery:this.app", "relay:celery:tests.docs.proj.celery.app"):
        with pytest.raises(Configuration, match="expected a route to the Celery app"):
            target_of(topic)
    assert "this" not in sys.modules
    with pytest.raises(Configuration, match="topic: expected"):
        target_of("orders")
