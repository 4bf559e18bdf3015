"""An app with the backend on a database of the module's own; its rows are committed."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from celery import Celery

from pg_queue.celery.backend import DownbeatBackend
from tests.processes import ProcessDatabase, copied_database


@pytest.fixture(scope="module")
def results_database(process_template: str) -> Iterator[ProcessDatabase]:
    """A migrated database of this module's."""
    if not process_template:
        pytest.skip("PostgreSQL only: Celery's result backend")
    with copied_database(os.environ["DATABASE_URL"], process_template, f"results_{uuid.uuid4().hex[:8]}") as database:
        yield database


MakeApp = Callable[..., Any]


@pytest.fixture
def make_app(results_database: ProcessDatabase) -> Iterator[MakeApp]:
    """Makes apps on that database: `make_app(result_expires=5)`, with `query="namespace=a"` in the URL."""
    apps: list[Any] = []

    def make(*, query: str = "", url: str | None = None, **conf: object) -> Any:
        app: Any = Celery(f"app{len(apps)}", set_as_current=False, broker="memory://")
        app.conf.update(result_backend=f"downbeat+{url or results_database.url}{'?' if query else ''}{query}", **conf)
        apps.append(app)
        assert isinstance(app.backend, DownbeatBackend)
        return app

    try:
        yield make
    finally:
        for app in apps:
            app.backend.result_consumer.stop()
            app.backend.sessions.close()


@pytest.fixture
def app(make_app: MakeApp) -> Any:
    """An app without anything said but its URL."""
    return make_app()


@pytest.fixture
def backend(app: Any) -> DownbeatBackend:
    """Its backend."""
    backend: DownbeatBackend = app.backend
    return backend


@pytest.fixture
def task_id() -> str:
    """A fresh one."""
    return str(uuid.uuid4())
