"""The supervised tree: started, broken, killed and stopped as a person at a terminal would, with cheap services."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import psycopg
import pytest

from backend.standalone.identity import ProcessIdentity
from backend.standalone.ports import free_port
from backend.standalone.postgres import EmbeddedPostgres
from backend.standalone.remnants import end_marked, marked, read_record
from tests.processes import RunningProcess, child_environment, clean_up

pytestmark = pytest.mark.processes

RUN = [sys.executable, "-m", "tests.backend.standalone.fake_service"]
Start = Callable[..., RunningProcess]


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A data directory that one test after the other is started on, as a person would; removed with its server."""
    path = tmp_path_factory.mktemp("run") / "data"
    yield path
    EmbeddedPostgres(path).discard()


@pytest.fixture
def start(data_dir: Path) -> Iterator[Start]:
    """Starts the supervisor with stand-ins on `data_dir`; kills what is left of it and of them."""
    started: list[RunningProcess] = []

    def begin(**environment: str) -> RunningProcess:
        inherited = {name: text for name, text in child_environment(None).items() if name != "DATABASE_URL"}
        own = {"DATA_DIR": str(data_dir), "PORT": str(free_port()), **environment}
        started.append(RunningProcess(RUN, env=inherited | own))
        return started[-1]

    yield begin
    secret = str(read_record(data_dir).get("secret", ""))
    try:
        clean_up(started)
    finally:
        end_marked(secret, grace_seconds=0)


def wait_until_serving(process: RunningProcess) -> dict[str, int]:
    """The stand-ins' pids by name, once both serve."""
    return {name: int(process.wait_for_line(rf"^{name} +\| serving as (\d+)")[1]) for name in ("first", "second")}


def everything_of(data_dir: Path) -> list[ProcessIdentity]:
    """All processes that the supervisor on `data_dir` started, PostgreSQL's included; not those that end meanwhile."""
    server = EmbeddedPostgres(data_dir)
    found = []
    for process in (*marked(str(read_record(data_dir)["secret"])), *server.processes()):
        with suppress(psutil.NoSuchProcess):  # PostgreSQL's own workers and sessions come and go
            found.append(ProcessIdentity.of(process.pid))
    return found


def still_running(processes: list[ProcessIdentity]) -> list[str]:
    """The command lines of those that still run."""
    lines = []
    for one in processes:
        with suppress(psutil.NoSuchProcess):  # it may end between the look and the question
            if (process := one.process()) is not None:
                lines.append(" ".join(process.cmdline()))
    return lines


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_stop_signal_ends_every_process_and_postgresql_last(
    start: Start, data_dir: Path, number: signal.Signals
) -> None:
    process = start(FAKE_MODE="forking")
    wait_until_serving(process)
    processes = everything_of(data_dir)
    assert len(processes) >= 9  # two services, a grandchild of each, and PostgreSQL's
    process.send(number)
    assert process.wait() == 0
    assert still_running(processes) == []
    assert process.output.splitlines()[-1].endswith("PostgreSQL has stopped")


def test_ctrl_c_at_the_terminal_reaches_the_supervisor_alone(start: Start) -> None:
    process = start()
    pids = wait_until_serving(process)
    for pid in (*pids.values(), *(child.pid for child in psutil.Process(process.pid).children())):
        assert os.getpgid(pid) != os.getpgid(process.pid)


def test_a_service_that_dies_is_started_again(start: Start) -> None:
    process = start()
    pid = wait_until_serving(process)["first"]
    seen = len(process.lines)
    os.kill(pid, signal.SIGKILL)
    process.wait_for_line(r"first \(pid \d+\) was ended by SIGKILL; starting it again", after=seen)
    assert int(process.wait_for_line(r"^first +\| serving as (\d+)", after=seen)[1]) != pid


def test_postgresql_that_dies_is_started_again_at_the_same_address(start: Start, data_dir: Path) -> None:
    process = start()
    wait_until_serving(process)
    server = EmbeddedPostgres(data_dir)
    url, pid = server.url, server.pid
    assert pid is not None
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS kept AS SELECT 1 AS one")
    os.kill(pid, signal.SIGKILL)
    process.wait_for_line("PostgreSQL has ended; starting it again")
    process.stop()
    again = EmbeddedPostgres(data_dir)
    assert again.start() == url  # discarded by data_dir
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT one FROM kept").fetchone() == (1,)


def test_a_service_that_ignores_sigterm_is_killed_after_its_deadline(start: Start, data_dir: Path) -> None:
    process = start(FAKE_MODE="stubborn")
    wait_until_serving(process)
    processes = everything_of(data_dir)
    assert process.stop() == 0
    assert still_running(processes) == []
    assert "first did not stop in 1 s: killed" in process.output


def test_a_second_signal_does_not_wait_for_the_deadline(start: Start) -> None:
    process = start(FAKE_MODE="stubborn", FAKE_STOP_SECONDS="3600")
    wait_until_serving(process)
    deadline = time.monotonic() + 90
    while process.returncode is None and time.monotonic() < deadline:
        process.send(signal.SIGINT)  # those within a second count as one
        time.sleep(0.2)
    assert process.wait() == 0
    assert re.search(r"first \(pid \d+\) was ended by SIGKILL", process.output)


def test_one_stop_that_is_delivered_twice_still_waits(start: Start) -> None:
    process = start(FAKE_MODE="stubborn", FAKE_STOP_SECONDS="3", FAKE_SAME_REQUEST_SECONDS="60")
    wait_until_serving(process)
    process.send(signal.SIGTERM)
    process.wait_for_line("stopping")
    process.send(signal.SIGTERM)
    assert process.wait() == 0
    assert "first did not stop in 3 s: killed" in process.output


def test_services_end_when_their_supervisor_is_killed_and_the_server_is_taken_over(
    start: Start, data_dir: Path
) -> None:
    process = start()
    pids = wait_until_serving(process)
    server = EmbeddedPostgres(data_dir)
    url, pid = server.url, server.pid
    password = json.loads((data_dir / "credentials.json").read_text())["password"]
    services = [psutil.Process(pid) for pid in pids.values()]
    process.kill()
    assert psutil.wait_procs(services, timeout=60)[1] == []
    again = start()
    wait_until_serving(again)
    assert (EmbeddedPostgres(data_dir).url, EmbeddedPostgres(data_dir).pid) == (url, pid)
    assert json.loads((data_dir / "credentials.json").read_text())["password"] == password
    assert again.stop() == 0
    assert server.processes() == []


def test_a_start_ends_what_a_killed_supervisor_left_running(start: Start) -> None:
    process = start(FAKE_MODE="stubborn")
    left = [ProcessIdentity.of(pid) for pid in wait_until_serving(process).values()]
    process.kill()
    assert len(still_running(left)) == 2
    again = start()
    again.wait_for_line("ended 2 processes that an earlier start had left running")
    assert still_running(left) == []


def test_a_second_start_on_the_same_data_directory_is_refused_and_disturbs_nothing(start: Start) -> None:
    process = start()
    pids = wait_until_serving(process)
    second = start()
    assert second.wait() == 1
    assert re.search(rf"already runs on .* \(pid {process.pid}\)", second.stderr)
    assert all(psutil.pid_exists(pid) for pid in pids.values())
    assert process.returncode is None


def test_a_taken_port_is_named_before_anything_is_started(start: Start, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        process = start(PORT=str(port), DATA_DIR=str(tmp_path / "new"))
        assert process.wait() == 1
    assert re.search(rf"PORT {port} .* is taken", process.stderr)
    assert not (tmp_path / "new" / "postgres.json").exists()


@pytest.mark.parametrize("port", ["http", "0", "65536", "-1", "80 80"])
def test_a_port_that_is_none_is_refused_by_name(start: Start, port: str) -> None:
    process = start(PORT=port)
    assert process.wait() == 1
    assert f"PORT: expected a number from 1 to 65535, got: {port!r}" in process.stderr


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("sqlite:///x", "postgres://user:password@host:port/database, got: sqlite://…"),
        ("mysql://root:secret@127.0.0.1/x", "got: mysql://…"),
        ("nonsense", "got: no URL"),
        ("postgres://postgres@127.0.0.1:1/x", "Connection refused"),
        ("postgres://postgres@127.0.0.1:port/x", "got: a URL that cannot be read"),
        ("postgres://me:1/secret@127.0.0.1:5432/x", "got: a password that cuts the URL short"),
    ],
)
def test_a_database_that_cannot_be_used_is_refused_in_words(start: Start, tmp_path: Path, url: str, words: str) -> None:
    process = start(DATABASE_URL=url, DATA_DIR=str(tmp_path / "new"))
    assert process.wait() == 1
    assert "Downbeat cannot run: DATABASE_URL: expected" in process.stderr
    assert words in process.stderr
    assert "Traceback" not in process.stderr + process.output
    assert "secret" not in process.stderr


def test_a_database_of_the_users_own_is_used_instead_of_an_embedded_one(start: Start, tmp_path: Path) -> None:
    process = start(DATABASE_URL=os.environ["DATABASE_URL"], DATA_DIR=str(tmp_path / "new"))
    wait_until_serving(process)
    assert process.stop() == 0
    assert not (tmp_path / "new" / "postgres.json").exists()


def test_secrets_are_readable_by_their_owner_alone(start: Start, data_dir: Path) -> None:
    process = start()
    wait_until_serving(process)
    modes = {path.name: path.stat().st_mode & 0o777 for path in data_dir.iterdir() if path.is_file()}
    assert {"credentials.json", "postgres.json", "secret-key.json", "supervisor.json"} <= set(modes)
    assert set(modes.values()) == {0o600}
    process.stop()
