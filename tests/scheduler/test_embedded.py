"""The scheduler inside a process that has other things to do: it does what `run_scheduler` does."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from pg_queue import api
from scheduler.api import EmbeddedScheduler
from tests.pg_queue.worker.conftest import until

pytestmark = pytest.mark.django_db(transaction=True, available_apps=["pg_queue"])


@pytest.fixture
def scheduler(settings: Any) -> Iterator[EmbeddedScheduler]:
    """One that runs, and whose queue `away` leads to another store."""
    stores = {"default": {}, "far": {"NAMESPACE": "far"}}
    routes = {"away": {"STORE": "far"}}
    settings.PG_QUEUE = {**settings.PG_QUEUE, "STORES": stores, "ROUTES": routes, "RELAY_SECONDS": 0.1}
    made = EmbeddedScheduler()
    made.start()
    yield made
    assert made.stop(), "it ends within its bound"


def test_it_relays_what_is_routed_away_while_it_leads(scheduler: EmbeddedScheduler) -> None:
    until(lambda: scheduler.is_leader, what="the lead")
    message_id = api.dispatch(api.NewMessage(task="noop", queue="away"))
    until(lambda: message_id in api.get_messages([message_id], using="far"), what="the message in the other store")
    until(lambda: relayed(scheduler).get("relay:store:far", {}).get("sent") == 1, what="the relay's word")


def relayed(scheduler: EmbeddedScheduler) -> dict[str, dict[str, Any]]:
    found: Any = scheduler.details().get("relay", {})
    return dict(found)
