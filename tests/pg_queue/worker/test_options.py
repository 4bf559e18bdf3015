"""How a worker is set up: its flags override the environment, which overrides the settings."""

from __future__ import annotations

import os
import socket
from typing import Any

import pytest
from django.core.management.base import CommandError

from pg_queue.errors import Configuration
from pg_queue.health import Pulse
from pg_queue.management.commands.run_worker import Command
from pg_queue.settings import parse
from pg_queue.worker.embedded import EmbeddedWorker
from pg_queue.worker.options import WorkerOptions


def options_of(*arguments: str) -> WorkerOptions:
    """What `run_worker` with these arguments works with."""
    command = Command()
    return command._chosen(vars(command.create_parser("manage.py", "run_worker").parse_args([*arguments])))


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [
        name
        for name in os.environ
        if name.startswith(("DOWNBEAT_WORKER", "DOWNBEAT_MAX", "DOWNBEAT_DRAIN", "DOWNBEAT_HEALTH"))
    ]:
        monkeypatch.delenv(name)


OPTIONS: dict[str, tuple[str, str, str, list[tuple[Any, Any]]]] = {
    # field: flag, key, and what is given (flag and environment: as text) with what comes of it
    "pool": (
        "--pool",
        "WORKER_POOL",
        "process",
        [("thread", "thread"), ("asyncio", "asyncio"), ("process", "process")],
    ),
    "queues": (
        *("--queues", "WORKER_QUEUES", ("default",)),
        [("a", ("a",)), ("b,c", ("b", "c")), ("d=2,e=1", ("d", "e"))],
    ),
    "concurrency": ("--concurrency", "WORKER_CONCURRENCY", os.cpu_count(), [(7, 7), (8, 8), (9, 9)]),
    "drain_seconds": ("--drain-seconds", "DRAIN_SECONDS", 30.0, [(1.5, 1.5), (2.5, 2.5), (0, 0)]),
    "max_tasks_per_child": ("--max-tasks-per-child", "MAX_TASKS_PER_CHILD", None, [(10, 10), (20, 20), (30, 30)]),
    "max_memory_per_child_mb": (
        *("--max-memory-per-child", "MAX_MEMORY_PER_CHILD_MB", None),
        [(100, 100), (200, 200), (300, 300)],
    ),
    "store": ("--store", "WORKER_STORE", "default", [("x", "x"), ("y", "y"), ("z", "z")]),
    "namespace": ("--namespace", "WORKER_NAMESPACE", None, [("x", "x"), ("y", "y"), ("z", "z")]),
}


@pytest.mark.parametrize("field", OPTIONS)
def test_a_flag_overrides_the_environment_which_overrides_the_setting(
    field: str, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    flag, key, default, ((in_settings, first), (in_environment, second), (as_flag, third)) = OPTIONS[field]
    assert getattr(options_of(), field) == default
    settings.PG_QUEUE = {key: in_settings}
    assert getattr(options_of(), field) == first
    monkeypatch.setenv(f"DOWNBEAT_{key}", str(in_environment))
    assert getattr(options_of(), field) == second
    assert getattr(options_of(flag, str(as_flag)), field) == third


def health_of(*arguments: str) -> tuple[int, str] | None:
    """Where `run_worker` with these arguments says how it is; port 0 is any."""
    command = Command()
    given = vars(command.create_parser("manage.py", "run_worker").parse_args([*arguments]))
    server = command.health_server(given, Pulse(limit_seconds=1))
    if server is None:
        return None
    try:
        host, port = server._server.server_address[:2]
        return int(port), str(host)
    finally:
        server.stop()


def free_port() -> int:
    """One that was free just now."""
    with socket.create_server(("127.0.0.1", 0)) as one:
        port: int = one.getsockname()[1]
        return port


def test_health_is_served_where_the_flag_else_the_environment_else_the_setting_says(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert health_of() is None
    first, second, third = free_port(), free_port(), free_port()
    settings.PG_QUEUE = {"HEALTH_PORT": first, "HEALTH_HOST": "127.0.0.2"}
    assert health_of() == (first, "127.0.0.2")
    monkeypatch.setenv("DOWNBEAT_HEALTH_PORT", str(second))
    monkeypatch.setenv("DOWNBEAT_HEALTH_HOST", "127.0.0.3")
    assert health_of() == (second, "127.0.0.3")
    assert health_of("--health-port", str(third), "--health-host", "127.0.0.1") == (third, "127.0.0.1")


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("PORT", "many", "DOWNBEAT_HEALTH_PORT: expected a port from 0 to 65535, got: 'many'"),
        ("PORT", "65536", "DOWNBEAT_HEALTH_PORT: expected a port from 0 to 65535, got: '65536'"),
        ("HOST", "192.0.2.1", "DOWNBEAT_HEALTH_HOST: expected an address of this machine, got: '192.0.2.1'"),
    ],
)
def test_a_wrong_place_for_health_is_refused_by_its_name(
    name: str, text: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOWNBEAT_HEALTH_PORT", "0")
    monkeypatch.setenv(f"DOWNBEAT_HEALTH_{name}", text)
    with pytest.raises(CommandError) as refused:
        health_of()
    assert (str(refused.value), refused.value.returncode) == (said, 2)


def test_a_setting_that_is_no_port_is_refused() -> None:
    with pytest.raises(Configuration, match=r"PG_QUEUE\['HEALTH_PORT'\]: expected a port from 0 to 65535, got: 70000"):
        parse({"HEALTH_PORT": 70000})


def test_an_empty_variable_is_none(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOWNBEAT_WORKER_CONCURRENCY", "")
    settings.PG_QUEUE = {"WORKER_CONCURRENCY": 3}
    assert options_of().concurrency == 3


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("WORKER_CONCURRENCY", "many", "DOWNBEAT_WORKER_CONCURRENCY: expected a whole number, got: 'many'"),
        ("WORKER_CONCURRENCY", "0", "DOWNBEAT_WORKER_CONCURRENCY: expected a number from 1 to 1000, got: 0"),
        ("DRAIN_SECONDS", "long", "DOWNBEAT_DRAIN_SECONDS: expected a number, got: 'long'"),
        ("DRAIN_SECONDS", "nan", "DOWNBEAT_DRAIN_SECONDS: expected a number of seconds, 0 or more, got: nan"),
        ("WORKER_POOL", "gevent", "DOWNBEAT_WORKER_POOL: expected one of asyncio, process, thread, got: 'gevent'"),
        ("WORKER_QUEUES", "a=3,b", "DOWNBEAT_WORKER_QUEUES: expected all of them with a weight from 1 to 1000"),
        ("WORKER_QUEUES", "a b", "DOWNBEAT_WORKER_QUEUES: expected names of 1 to 128 letters"),
        ("MAX_TASKS_PER_CHILD", "-1", "DOWNBEAT_MAX_TASKS_PER_CHILD: expected a number above 0, got: -1"),
    ],
)
def test_a_wrong_variable_is_refused_by_its_name(
    name: str, text: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"DOWNBEAT_{name}", text)
    with pytest.raises(CommandError) as refused:
        options_of()
    assert str(refused.value).startswith(said)
    assert refused.value.returncode == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--max-tasks-per-child", "0"], "--max-tasks-per-child: expected a number above 0, got: 0"),
        (
            ["--max-memory-per-child", "9", "--pool", "asyncio"],
            "--max-memory-per-child: expected --pool process, whose children it is about, got: 'asyncio'",
        ),
        (["--queues", "a=3,b"], "--queues: expected all of them with a weight from 1 to 1000"),
    ],
)
def test_a_wrong_flag_is_refused_by_its_name(arguments: list[str], said: str) -> None:
    with pytest.raises(CommandError) as refused:
        options_of(*arguments)
    assert str(refused.value).startswith(said)


def test_a_wrong_setting_is_refused_by_its_name(settings: Any) -> None:
    settings.PG_QUEUE = {"WORKER_POOL": "gevent"}
    with pytest.raises(CommandError, match=r"^PG_QUEUE\['WORKER_POOL'\]: expected one of asyncio, process, thread"):
        options_of()
    with pytest.raises(Configuration, match=r"TASK_SOFT_TIME_LIMIT_SECONDS.*less than TASK_TIME_LIMIT_SECONDS \(5\)"):
        parse({"TASK_SOFT_TIME_LIMIT_SECONDS": 5, "TASK_TIME_LIMIT_SECONDS": 5})


def test_settings_about_children_do_no_harm_to_a_worker_without(settings: Any) -> None:
    settings.PG_QUEUE = {"MAX_TASKS_PER_CHILD": 5}
    assert options_of("--pool", "thread").pool == "thread"


def test_a_worker_inside_another_process_has_no_children() -> None:
    options = WorkerOptions(queues=("default",), concurrency=1, drain_seconds=1, pool="process")
    with pytest.raises(Configuration, match="pool: expected 'thread' or 'asyncio' inside another process"):
        EmbeddedWorker(options).start()
