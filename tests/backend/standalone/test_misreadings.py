"""What a slow or corrected machine must not be taken for: a dead server, another server, a dead owner, a free port."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import psycopg
import pytest

from backend.standalone import placement, ports
from backend.standalone.identity import ProcessIdentity
from backend.standalone.server import server_processes
from tests.processes import OwnPostgresFactory


@pytest.mark.processes
def test_a_server_that_is_slow_to_answer_once_is_not_replaced(
    own_postgres: OwnPostgresFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = own_postgres()
    pid, connect, refusals = server.pid, psycopg.connect, [psycopg.OperationalError("timeout expired")] * 2

    def connect_late(*arguments: Any, **options: Any) -> Any:
        if refusals:
            raise refusals.pop()
        return connect(*arguments, **options)

    monkeypatch.setattr(psycopg, "connect", connect_late)
    server.start()
    assert refusals == []
    assert server.pid == pid


def test_a_process_just_forked_is_not_taken_for_the_postmaster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = placement.new_cluster(tmp_path, ephemeral=True)

    def process(pid: int, created_at: float, *title: str) -> Any:
        info = {"name": "postgres", "cmdline": list(title), "uids": SimpleNamespace(real=1), "create_time": created_at}
        return SimpleNamespace(pid=pid, info=info)

    postmasters = ["postgres", f"--cluster_name={cluster.name}"]
    found = [
        process(3, 30.0, f"postgres: {cluster.name}: checkpointer"),
        process(4, 50.0, *postmasters),  # pids begin anew at some height
        process(5, 20.0, *postmasters),
        process(6, 10.0, "postgres: another: checkpointer"),
    ]
    monkeypatch.setattr(psutil, "process_iter", lambda names: iter(found))
    assert [one.pid for one in server_processes(cluster)] == [5, 4, 3]


@pytest.fixture
def home() -> Iterator[Path]:
    """The folder of a disposable cluster of this process, with nothing in it yet."""
    made = placement.new_ephemeral_home()
    yield made
    shutil.rmtree(made, ignore_errors=True)


def test_a_clock_that_was_set_makes_nobody_his_own_orphan(home: Path) -> None:
    living = ProcessIdentity.of(os.getpid())
    record = ProcessIdentity(pid=living.pid, started_at=living.started_at - 3_600)
    placement.write_private(home / placement.OWNER, record.as_record())
    assert home not in placement.orphaned_homes()


def test_ports_that_are_chosen_together_differ_from_each_other_and_from_those_promised(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    drawn = iter([5, 5, 7, 9, 5, 11])
    monkeypatch.setattr(ports, "free_port", lambda: next(drawn))
    assert ports.free_ports(3, other_than=[7]) == [5, 9, 11]
