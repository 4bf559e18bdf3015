"""Desktop mode as a user starts it: one process on a data directory of the test's own."""

from __future__ import annotations

import json
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from backend.standalone.ports import free_port
from tests.processes import RunningProcess, child_environment, clean_up

READY = r"Downbeat runs as one process, ([\d.]+) s after its start"


class Desktop:
    """One start."""

    def __init__(self, data_dir: Path, port: int, **environment: str) -> None:
        inherited = {name: text for name, text in child_environment(None).items() if name != "DATABASE_URL"}
        self.data_dir = data_dir
        self.process = RunningProcess(
            [sys.executable, "-m", "backend.standalone"],
            env={**inherited, "DOWNBEAT_MODE": "desktop", "DATA_DIR": str(data_dir), "PORT": str(port), **environment},
        )

    def wait_until_ready(self) -> float:
        """Wait for its banner; the seconds that it names."""
        return float(self.process.wait_for_line(READY)[1])

    @property
    def credentials(self) -> dict[str, str]:
        """How to log in."""
        found: dict[str, str] = json.loads((self.data_dir / "credentials.json").read_text())
        return found

    def ask(self, path: str, body: Any = None) -> Any:
        """The JSON that the API answers; with a body, to a POST."""
        known = self.credentials
        headers = {"Authorization": f"Token {known['token']}", "Content-Type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{known['url']}/api/v1/{path}", data, headers)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Desktop]]:
    """Starts desktop mode, each time on the same data directory and port; nothing outlives the test."""
    started: list[Desktop] = []
    port = free_port()

    def begin(**environment: str) -> Desktop:
        started.append(Desktop(tmp_path / "data", port, **environment))
        return started[-1]

    yield begin
    clean_up(one.process for one in started)
