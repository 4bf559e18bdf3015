"""The embedded PostgreSQL: what it grants to whom, and what it makes of what it finds."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import psutil
import psycopg
import pytest

from backend.standalone import placement, postgres
from backend.standalone.account import is_root
from backend.standalone.errors import PostgresStartFailed, PostgresUnavailable
from backend.standalone.identity import ProcessIdentity
from backend.standalone.postgres import EmbeddedPostgres
from backend.standalone.provider import InstalledPostgres, WheelPostgres
from tests.processes import ROOT, OwnPostgresFactory, child_environment

pytestmark = pytest.mark.processes

NOT_ROOT = pytest.mark.skipif(not is_root(), reason="absent: root, who starts the server under another account")
OTHER_USER = 65534  # "nobody" on Linux; any account that is neither root's nor the server's
INSTALLED = [(int(path.parent.name), path) for path in sorted(Path("/usr/lib/postgresql").glob("[0-9]*/bin"))]

Embedded = Callable[..., EmbeddedPostgres]


@pytest.fixture
def embedded() -> Iterator[Embedded]:
    """Makes `EmbeddedPostgres` objects, without fsync unless settings are given; removes their servers."""
    made: list[EmbeddedPostgres] = []

    def make(data_dir: Path, **options: object) -> EmbeddedPostgres:
        made.append(EmbeddedPostgres(data_dir, **{"settings": {"fsync": "off"}, **options}))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for server in made:
        server.discard()


def value(url: str, query: str) -> object:
    """The first column of a query's only row."""
    with psycopg.connect(url) as connection:
        row = connection.execute(query).fetchone()
    assert row is not None
    return row[0]


def modes_upwards(path: Path) -> dict[Path, int]:
    """The mode of a folder and of every folder above it."""
    return {folder: folder.stat().st_mode for folder in (path, *path.parents)}


def test_a_first_start_gives_a_durable_server_of_postgresql_18_on_loopback_only(
    embedded: Embedded, tmp_path: Path
) -> None:
    server = embedded(tmp_path / "data", settings={})
    url = server.start()
    assert value(url, "SHOW server_version_num") >= "180000"  # type: ignore[operator]
    assert value(url, "SHOW fsync") == "on"
    assert server.pid is not None
    listening = [c.laddr for c in psutil.Process(server.pid).net_connections() if c.status == psutil.CONN_LISTEN]
    assert listening == [("127.0.0.1", server.port)]
    assert value(server.admin_url, "SHOW unix_socket_directories") == ""


def test_the_application_role_owns_its_database_and_is_no_superuser(own_postgres: OwnPostgresFactory) -> None:
    url = own_postgres().url
    assert value(url, "SELECT current_setting('is_superuser')") == "off"
    assert value(url, "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = 'downbeat'") == "downbeat"


def test_data_is_found_again_after_a_stop_that_leaves_no_process(embedded: Embedded, tmp_path: Path) -> None:
    server = embedded(tmp_path / "data")
    with psycopg.connect(server.start()) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 1 AS one")
    running = server.processes()
    server.stop()
    assert not [process for process in running if process.is_running()]
    again = embedded(tmp_path / "data")
    assert value(again.start(), "SELECT one FROM kept") == 1
    assert again.url == server.url


def test_a_start_uses_the_server_that_already_answers(embedded: Embedded, tmp_path: Path) -> None:
    first, second = embedded(tmp_path / "data"), embedded(tmp_path / "data")
    url = first.start()
    assert second.start() == url
    assert second.pid == first.pid
    assert second.is_running


def test_nobody_gets_in_without_the_password(own_postgres: OwnPostgresFactory) -> None:
    server = own_postgres()
    for role, password in (
        ("postgres", ""),
        ("downbeat", ""),
        ("postgres", "guess"),
        ("root", ""),
    ):
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(host="127.0.0.1", port=server.port, user=role, password=password, dbname="postgres")
    rules = [line for line in (server.cluster.data / "pg_hba.conf").read_text().splitlines() if line[:1] not in "#"]
    assert {line.split()[-1] for line in rules} == {"scram-sha-256"}


def test_the_record_with_the_passwords_is_readable_by_its_owner_alone(embedded: Embedded, tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    server = embedded(data_dir)
    server.start()
    assert (data_dir / "postgres.json").stat().st_mode & 0o777 == 0o600
    assert (data_dir / "postgres.log").stat().st_mode & 0o777 == 0o600
    assert server.cluster.data.stat().st_mode & 0o777 == 0o700


@NOT_ROOT
def test_root_in_a_closed_folder_gets_a_server_under_an_account_of_its_own_and_opens_no_folder(
    embedded: Embedded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    source = WheelPostgres()
    for tree in source.trees:
        shutil.copytree(source.root / tree, closed / "wheel" / tree, symlinks=True)
    (closed / "wheel").chmod(0o700)
    home = placement.server_home() / f"test-{os.getpid()}"
    monkeypatch.setenv(placement.HOME_VARIABLE, str(home))
    monkeypatch.setattr(WheelPostgres, "root", property(lambda _: closed / "wheel"))
    watched = [closed / "wheel" / source.programs, home.parent, closed]
    before = [modes_upwards(path) for path in watched]
    server = embedded(closed / "data")
    try:
        server.start()
        assert server.pid is not None
        uids = psutil.Process(server.pid).uids()
        assert 0 not in (uids.real, uids.effective, uids.saved)
        assert psutil.Process(server.pid).gids().real != 0
        assert server.cluster.folder.is_relative_to(home)
        assert str(server.cluster.folder) in (closed / "data" / "postgres.json").read_text()
        assert [modes_upwards(path) for path in watched] == before
        for secret in (server.cluster.data / "PG_VERSION", closed / "data" / "postgres.json"):
            assert subprocess.run(["cat", secret], user=OTHER_USER, group=OTHER_USER, capture_output=True).returncode
    finally:
        server.discard()
        shutil.rmtree(home)


@NOT_ROOT
def test_root_copies_the_programs_once(tmp_path: Path) -> None:
    first = placement.programs_of(WheelPostgres())
    inode = (first / "postgres").stat().st_ino
    assert placement.programs_of(WheelPostgres()) == first
    assert (first / "postgres").stat().st_ino == inode
    assert subprocess.run([first / "postgres", "--version"], user=OTHER_USER, capture_output=True).returncode == 0


def test_a_home_that_others_can_write_to_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home").chmod(0o777)
    monkeypatch.setenv(placement.HOME_VARIABLE, str(tmp_path / "home"))
    with pytest.raises(PostgresUnavailable, match="others can write to it"):
        placement.server_home()


@pytest.mark.parametrize("mode", ["immediate", "kill"])
def test_a_server_that_died_hard_starts_again_with_what_was_committed(
    own_postgres: OwnPostgresFactory, mode: str
) -> None:
    server = own_postgres()
    with psycopg.connect(server.url) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 1 AS one")
    server.stop(mode)  # type: ignore[arg-type]
    assert server.pid is None
    server.start()
    assert value(server.url, "SELECT one FROM kept") == 1


def test_a_stale_lock_file_whose_pid_went_to_another_process_is_reclaimed(own_postgres: OwnPostgresFactory) -> None:
    server = own_postgres()
    lock = server.cluster.data / "postmaster.pid"
    content = lock.read_text().splitlines()
    account = server.cluster.data.stat()
    server.stop("kill")
    options = {"user": account.st_uid, "group": account.st_gid, "extra_groups": []} if is_root() else {}
    with subprocess.Popen(["sleep", "600"], **options) as innocent:  # type: ignore[call-overload]
        try:
            lock.write_text("\n".join([str(innocent.pid), *content[1:]]) + "\n")
            server.start()
            assert value(server.url, "SELECT 1") == 1
            assert innocent.poll() is None
        finally:
            innocent.kill()


def test_a_frozen_server_is_replaced(own_postgres: OwnPostgresFactory) -> None:
    server = own_postgres()
    frozen = server.pid
    assert frozen is not None
    os.kill(frozen, signal.SIGSTOP)
    server.start()
    assert server.pid != frozen
    assert value(server.url, "SELECT 1") == 1


def test_a_moved_data_directory_keeps_its_data_and_a_copied_one_gets_its_own_server(
    embedded: Embedded, tmp_path: Path
) -> None:
    server = embedded(tmp_path / "old")
    with psycopg.connect(server.start()) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 1 AS one")
    server.stop()
    shutil.move(tmp_path / "old", tmp_path / "new")
    moved = embedded(tmp_path / "new")
    assert value(moved.start(), "SELECT one FROM kept") == 1
    (tmp_path / "copy").mkdir()
    shutil.copy(tmp_path / "new" / "postgres.json", tmp_path / "copy" / "postgres.json")
    copied = embedded(tmp_path / "copy")
    assert value(copied.start(), "SELECT to_regclass('kept') IS NULL")
    assert copied.pid != moved.pid


class BrokenPostgres:
    """A provider whose initdb fails as on a full disk."""

    trees: tuple[str, ...] = ()
    name, major, programs = "broken", 18, "."

    def __init__(self, root: Path) -> None:
        self.root = root
        initdb = root / "initdb"
        initdb.write_text("#!/bin/sh\necho 'could not write: No space left on device'; exit 1\n")
        initdb.chmod(0o755)


def test_a_failed_initdb_says_why_and_leaves_nothing_in_the_way_of_the_next_start(
    embedded: Embedded, own_postgres: OwnPostgresFactory
) -> None:
    home = own_postgres().home  # a folder that the server's account can pass
    programs = home / "programs"
    programs.mkdir(mode=0o755)
    broken = embedded(home / "data", provider=BrokenPostgres(programs), settings={})
    with pytest.raises(PostgresStartFailed, match=r"(?s)exit code 1, \d+ MiB free there.*No space left on device"):
        broken.start()
    assert [path.name for path in broken.cluster.folder.iterdir()] == []
    assert value(embedded(home / "data").start(), "SELECT 1") == 1


def test_a_server_that_cannot_start_says_why(embedded: Embedded, tmp_path: Path) -> None:
    server = embedded(tmp_path / "data", settings={"shared_buffers": "12parsecs"})
    with pytest.raises(PostgresStartFailed, match=r"(?s)exited with code 1.*shared_buffers"):
        server.start()


def test_a_server_whose_data_was_removed_can_still_be_stopped(own_postgres: OwnPostgresFactory) -> None:
    server = own_postgres()
    shutil.rmtree(server.cluster.data)
    server.stop("immediate")
    assert server.processes() == []
    assert not server.is_running


def test_data_of_another_major_version_is_refused(embedded: Embedded, tmp_path: Path) -> None:
    server = embedded(tmp_path / "data")
    server.start()
    server.stop()
    (server.cluster.data / "PG_VERSION").write_text("16\n")
    with pytest.raises(PostgresUnavailable, match="is of PostgreSQL 16, the programs are of 18"):
        embedded(tmp_path / "data").start()


def test_a_record_that_cannot_be_read_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "postgres.json").write_text("{}")
    with pytest.raises(PostgresUnavailable, match=r"postgres\.json"):
        EmbeddedPostgres(tmp_path).start()


def test_an_ephemeral_server_whose_owner_was_killed_is_removed_by_the_next_one(
    own_postgres: OwnPostgresFactory,
) -> None:
    code = (
        "import sys; from backend.standalone.postgres import EmbeddedPostgres; "
        "s = EmbeddedPostgres.ephemeral(); s.start(); print(s.home, s.pid, flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code]
    options = {"cwd": ROOT, "env": child_environment(None), "text": True}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, **options) as owner:  # type: ignore[call-overload]
        home, pid = owner.stdout.readline().split()
        left_behind = ProcessIdentity.of(int(pid))
        owner.kill()
    own_postgres()
    assert left_behind.process() is None
    assert not Path(home).exists()


@pytest.mark.parametrize("free", [placement.MEMORY_NEEDED, placement.MEMORY_NEEDED - 1])
def test_a_cluster_for_tests_is_in_memory_where_there_is_room_and_removed_wherever_it_is(
    free: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = placement.server_home() / f"test-{os.getpid()}"
    memory.mkdir(mode=0o711)
    monkeypatch.setattr(placement, "MEMORY", memory)
    monkeypatch.setattr(placement.shutil, "disk_usage", lambda path: SimpleNamespace(free=free))
    home = placement.new_ephemeral_home(in_memory=True)
    try:
        assert home.is_relative_to(memory) == (free == placement.MEMORY_NEEDED)
        assert home not in placement.orphaned_homes()
        monkeypatch.setattr(placement, "_is_orphan", lambda found: found == home)
        monkeypatch.setattr(placement.shutil, "disk_usage", lambda path: SimpleNamespace(free=0))
        assert placement.orphaned_homes() == [home]
    finally:
        shutil.rmtree(home)
        shutil.rmtree(memory)


def test_what_others_may_write_to_in_memory_is_neither_used_nor_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = placement.server_home() / f"test-{os.getpid()}"
    theirs = memory / f"downbeat-{os.geteuid()}" / "pg-theirs"
    theirs.mkdir(parents=True)
    memory.chmod(0o711)
    monkeypatch.setattr(placement, "MEMORY", memory)
    monkeypatch.setattr(placement, "_is_orphan", lambda found: found == theirs)
    try:
        theirs.parent.chmod(0o711)
        assert placement.orphaned_homes() == [theirs]
        theirs.parent.chmod(0o777)
        assert placement.orphaned_homes() == []
        home = placement.new_ephemeral_home(in_memory=True)
        assert not home.is_relative_to(memory)
        shutil.rmtree(home)
    finally:
        shutil.rmtree(memory)


@pytest.mark.parametrize("fsync", ["on", "off"])
def test_a_cluster_that_is_to_reach_the_disk_is_on_it(
    fsync: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []

    def home(*, in_memory: bool) -> Path:
        asked.append(in_memory)
        return tmp_path

    monkeypatch.setattr(postgres, "new_ephemeral_home", home)
    EmbeddedPostgres.ephemeral(settings={"fsync": fsync})
    assert asked == [fsync == "off"]


def test_a_chosen_home_is_where_clusters_for_tests_are_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placement, "MEMORY", tmp_path / "memory")
    chosen = placement.server_home() / f"test-{os.getpid()}"
    monkeypatch.setenv(placement.HOME_VARIABLE, str(chosen))
    try:
        assert placement.new_ephemeral_home(in_memory=True).is_relative_to(chosen)
    finally:
        shutil.rmtree(chosen)


def test_of_several_starts_at_once_one_removes_what_dead_owners_left(monkeypatch: pytest.MonkeyPatch) -> None:
    lock = placement.server_home() / "ephemeral" / "lock"
    looked = []

    def look() -> list[Path]:
        with open(lock) as file, pytest.raises(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        looked.append(True)
        return []

    monkeypatch.setattr(postgres, "orphaned_homes", look)
    EmbeddedPostgres.ephemeral().discard()
    assert looked == [True]
    assert lock.stat().st_mode & 0o777 == 0o600


@pytest.mark.skipif(not INSTALLED, reason="absent: a PostgreSQL in /usr/lib/postgresql")
def test_another_provider_can_take_the_wheels_place(embedded: Embedded, tmp_path: Path) -> None:
    for major, folder in INSTALLED:
        server = embedded(tmp_path / str(major), provider=InstalledPostgres(folder, major=major))
        server.start()
        assert str(value(server.url, "SHOW server_version_num")).startswith(str(major))
