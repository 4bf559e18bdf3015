"""An injected clock."""

from __future__ import annotations

from datetime import datetime

import pytest

from scheduler import clock
from tests.scheduler.schedules.making import at


class Hands:
    """The database's clock, stopped; a test moves it."""

    def __init__(self) -> None:
        self.now = at("2026-03-02 10:07:30")

    def set(self, text: str) -> datetime:
        """Move it to an instant of UTC."""
        self.now = at(text)
        return self.now


@pytest.fixture
def hands(monkeypatch: pytest.MonkeyPatch) -> Hands:
    """The clock that the choke points read, stopped at Monday 2026-03-02 10:07:30 UTC."""
    stopped = Hands()
    monkeypatch.setattr(clock, "now", lambda using: stopped.now)
    return stopped
