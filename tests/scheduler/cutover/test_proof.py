"""The proof of the cutover in short, as `make prove-cutover` does it for minutes: both phases, side by side."""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack

import pytest

from tests.processes import Manage, RunningProcess, copied_database
from tests.proof.__main__ import PHASES

pytestmark = [pytest.mark.processes, pytest.mark.long, pytest.mark.timeout(600)]

SIZE = ["--minutes", "0.3", "--fast", "30", "--slower", "60", "--at-least", "300"]
SOON = 400
"""Seconds that it does not take, however slow the machine is."""


def test_nothing_is_missed_or_done_twice_whatever_is_asked_for_and_whatever_befalls_the_processes(
    process_template: str,
) -> None:
    manage = Manage(None)
    with ExitStack() as databases:
        databases.callback(manage.clean_up)
        running = []
        for phase in PHASES:
            copy = copied_database(os.environ["DATABASE_URL"], process_template, f"proof_{phase}")
            database = databases.enter_context(copy)
            command = [sys.executable, "-m", "tests.proof", "--database", database.url, "--phase", phase, *SIZE]
            running.append(manage.launch(command))
            databases.callback(_end, running[-1])
        for process in running:
            assert process.wait(SOON) == 0, process.output


def _end(process: RunningProcess) -> None:
    """By SIGTERM, at which it ends what it has started; nothing happens where it has ended."""
    process.stop()
