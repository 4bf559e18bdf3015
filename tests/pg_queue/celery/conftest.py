"""What Celery keeps for the whole process is put back as it was: other modules' tests run here too."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import kombu.pools
import pytest
from celery import _state
from django.db import connections


@pytest.fixture(autouse=True)
def _celerys_globals() -> Iterator[None]:
    """A worker in this process makes its app the default one, and the root logger its own."""
    root, current, default = logging.getLogger(), _state._tls.current_app, _state.default_app
    level, handlers = root.level, list(root.handlers)
    yield
    root.setLevel(level)
    root.handlers[:] = handlers
    _state._tls.current_app, _state.default_app = current, default


@pytest.fixture(autouse=True, scope="module")
def _sessions() -> Iterator[None]:
    """Kombu's pools keep connections, which keep Django's: those would hold the test database open."""
    before = set(connections.settings)
    yield
    kombu.pools.reset()
    for alias in set(connections.settings) - before:
        connections[alias].close()
        del connections[alias]
        del connections.settings[alias]
