"""Tasks that a test declares are gone after it."""

from __future__ import annotations

import pytest

from pg_queue.tasks import registry


@pytest.fixture(autouse=True)
def _forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    registry.tasks()  # what the project declares stays
    monkeypatch.setattr(registry, "_registered", dict(registry._registered))
    monkeypatch.setattr(registry, "_origins", dict(registry._origins))
