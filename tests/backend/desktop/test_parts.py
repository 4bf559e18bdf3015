"""What runs beside the web: both parts, or neither."""

from __future__ import annotations

import pytest

from backend.desktop import parts


def test_where_the_scheduler_refuses_to_start_the_worker_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    did: list[str] = []

    def refuse(self: object) -> None:
        raise RuntimeError("no scheduler here")

    monkeypatch.setattr(parts.EmbeddedWorker, "start", lambda self: did.append("start"))
    monkeypatch.setattr(parts.EmbeddedWorker, "stop", lambda self: did.append("stop"))
    monkeypatch.setattr(parts.EmbeddedScheduler, "start", refuse)
    with pytest.raises(RuntimeError, match="no scheduler here"):
        parts.Parts.started()
    assert did == ["start", "stop"]
