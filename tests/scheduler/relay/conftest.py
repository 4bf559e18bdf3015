"""A leader, its tables, and queues that are routed away."""

from __future__ import annotations

from typing import Any

import pytest

from scheduler.tick import Tick, make_tick
from tests.scheduler.tick.conftest import leadership, patient_server, rows, tick  # noqa: F401  for these tests too

CELERY = "relay:celery:backend.celery.app"


@pytest.fixture
def routes(settings: Any) -> None:
    """The queue `away` goes to Celery; to be asked for before `tick`."""
    settings.PG_QUEUE = {**settings.PG_QUEUE, "ROUTES": {"away": {"CELERY": "backend.celery.app"}}}


@pytest.fixture
def routed_tick(routes: None, leadership: Any) -> Tick:  # noqa: F811
    """A tick that knows the routes."""
    return make_tick(leadership)
