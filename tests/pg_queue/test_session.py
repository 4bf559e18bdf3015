"""The direct connection: where it leads to, and what is refused."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
from django.db import connections

from backend.standalone.ports import free_port
from pg_queue import session as queue_session
from pg_queue.errors import Configuration, DirectConnectionRequired
from pg_queue.session import connection_parameters, direct_connection
from tests import services
from tests.processes import Manage, ProcessDatabase


@pytest.fixture(params=["transaction", "statement", "session"])
def pool_mode(request: pytest.FixtureRequest) -> str:
    """PgBouncer's ways of sharing."""
    return str(request.param)


@pytest.fixture
def pgbouncer(process_database: ProcessDatabase, pool_mode: str) -> Iterator[str]:
    """The URL of the test's database through a PgBouncer of its own."""
    port = free_port()
    target = urlsplit(process_database.url)
    login = f"user={target.username} password={target.password or 'none'}"
    folder = Path(tempfile.mkdtemp(prefix="downbeat-pgbouncer-"))  # pytest's own folders are closed to other users
    (folder / "pgbouncer.ini").write_text(
        f"""
[databases]
{process_database.name} = host={target.hostname} port={target.port or 5432} {login}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
auth_type = any
pool_mode = {pool_mode}
default_pool_size = 5
unix_socket_dir =
ignore_startup_parameters = extra_float_digits,options
logfile = {folder}/log
"""
    )
    executable = services.executable("pgbouncer")
    assert executable is not None
    process = subprocess.Popen(
        [executable, str(folder / "pgbouncer.ini")], stderr=subprocess.DEVNULL, **_as_somebody_else_than_root(folder)
    )
    url = urlunsplit(target._replace(netloc=f"{target.username}:{target.password or ''}@127.0.0.1:{port}"))
    try:
        wait_until_it_answers(url, process)
        yield url
    finally:
        process.terminate()
        process.wait(60)
        shutil.rmtree(folder)


def _as_somebody_else_than_root(folder: Path) -> dict[str, Any]:
    """PgBouncer refuses to run as root."""
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    for path in (folder, *folder.iterdir()):
        os.chown(path, nobody.pw_uid, nobody.pw_gid)
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def wait_until_it_answers(url: str, process: subprocess.Popen[bytes], within_seconds: float = 60) -> None:
    deadline = time.monotonic() + within_seconds
    while True:
        assert process.poll() is None, "pgbouncer ended"
        try:
            psycopg.connect(url, connect_timeout=5).close()
        except psycopg.OperationalError as error:
            if time.monotonic() > deadline:
                raise AssertionError("pgbouncer does not answer") from error
            time.sleep(0.02)
        else:
            return


def parameters_of(url: str) -> dict[str, object]:
    return dict(psycopg.conninfo.conninfo_to_dict(url))


@pytest.mark.services("pgbouncer")
def test_a_proxy_that_shares_sessions_is_refused_and_the_message_says_what_to_set(
    pgbouncer: str, pool_mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue_session, "connection_parameters", lambda alias: parameters_of(pgbouncer))
    for _ in range(5):
        if pool_mode == "session":
            direct_connection().close()
            continue
        with pytest.raises(DirectConnectionRequired, match=r"PG_QUEUE\['DIRECT_DATABASE'\]"):
            direct_connection()


@pytest.mark.services("pgbouncer")
@pytest.mark.processes
@pytest.mark.parametrize("pool_mode", ["transaction"], indirect=True)
def test_a_scheduler_behind_a_sharing_proxy_ends_with_bad_configuration_unless_it_has_a_direct_alias(
    pgbouncer: str, manage: Manage, process_database: ProcessDatabase
) -> None:
    refused = manage.run("run_scheduler", "--once", url=pgbouncer)
    assert refused.returncode == 2
    assert "PG_QUEUE['DIRECT_DATABASE']" in refused.stderr
    assert "DOWNBEAT_DIRECT_DATABASE_URL" in refused.stderr

    helped = manage.run(
        "run_scheduler", "--once", url=pgbouncer, env={"DOWNBEAT_DIRECT_DATABASE_URL": process_database.url}
    )
    assert helped.returncode == 0, helped.output


def test_a_direct_connection_is_a_plain_session_in_autocommit_with_its_name_and_settings(
    process_database: ProcessDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue_session, "connection_parameters", lambda alias: parameters_of(process_database.url))
    with direct_connection("downbeat test", settings={"work_mem": "7MB"}) as session:
        assert type(session) is psycopg.Connection
        assert session.autocommit
        assert session.execute("SHOW application_name").fetchone() == ("downbeat test",)
        assert session.execute("SHOW work_mem").fetchone() == ("7MB",)


def test_the_parameters_are_those_of_the_django_alias_without_djangos_own() -> None:
    given = connection_parameters("default")
    assert given["dbname"]
    assert not {"cursor_factory", "context", "prepare_threshold", "pool"} & set(given)
    assert given["connect_timeout"] == 5


def test_an_unknown_alias_is_refused_with_those_that_exist() -> None:
    with pytest.raises(Configuration, match=r"DIRECT_DATABASE.*default.*got: 'nowhere'"):
        connection_parameters("nowhere")


def test_a_database_that_is_not_postgresql_is_refused() -> None:
    code = (
        "import django; from django.conf import settings;"
        "settings.configure(DATABASES={'default': {'ENGINE': 'django.db.backends.sqlite3', 'NAME': ':memory:'}});"
        "from pg_queue.session import connection_parameters; connection_parameters('default')"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert "expected PostgreSQL, got: 'sqlite'" in run.stderr


@pytest.mark.django_db(transaction=True)
def test_a_direct_connection_takes_the_role_that_the_django_alias_assumes(monkeypatch: pytest.MonkeyPatch) -> None:
    wrapper = connections["default"]
    with wrapper.cursor() as cursor:
        cursor.execute("DROP ROLE IF EXISTS downbeat_tests_assumed; CREATE ROLE downbeat_tests_assumed")
        cursor.execute("GRANT downbeat_tests_assumed TO CURRENT_USER")
    monkeypatch.setitem(wrapper.settings_dict, "OPTIONS", {"assume_role": "downbeat_tests_assumed"})
    try:
        with direct_connection() as session:
            assert session.execute("SELECT current_user").fetchone() == ("downbeat_tests_assumed",)
    finally:
        monkeypatch.undo()
        with wrapper.cursor() as cursor:
            cursor.execute("DROP ROLE downbeat_tests_assumed")
