"""What must be done before the first service starts: the database, its tables, and somebody who can log in."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import psycopg

from backend.database_url import parse_database_url
from backend.standalone.children import MANAGE, ROOT
from backend.standalone.credentials import (
    Credentials,
    known_password,
    new_password,
    parse_seeded_user,
    signing_key,
    write_credentials,
)
from backend.standalone.errors import DatabaseUnusable, PortTaken, StandaloneError
from backend.standalone.output import Terminal
from backend.standalone.placement import make_private_folder
from backend.standalone.ports import LOOPBACK, is_free
from backend.standalone.remnants import MARK

DATABASE_SCHEMES = {"postgres", "postgresql"}
# Celery's messages, below the data directory. What an earlier start left there is still sent for: it is kept.
BROKER = "celery"
# `migrate` has just made the system checks.
SEED_DEMO = (*MANAGE, "seed_demo", "--json", "--skip-checks")


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The choices that the environment makes."""

    port: int
    """Of the web process, on 127.0.0.1 (`PORT`, default 8000)."""
    data_dir: Path
    """Absolute (`DATA_DIR`, default `.downbeat`)."""
    database_url: str | None
    """A database of the user's own (`DATABASE_URL`); None: the embedded one."""
    has_beat: bool
    """Whether a Celery Beat and a Celery worker run beside the rest (`DOWNBEAT_DEMO_BEAT`).

    By default with the embedded database only: the user's own may have its Beat, and two send everything twice.
    """

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Options:
        """Raises: StandaloneError naming a variable that makes no sense."""
        port = environment.get("PORT") or "8000"
        if not port.isascii() or not port.isdigit() or not 1 <= int(port) <= 65535:
            raise StandaloneError(f"PORT: expected a number from 1 to 65535, got: {port!r}")
        database_url = environment.get("DATABASE_URL") or None
        demo_beat = environment.get("DOWNBEAT_DEMO_BEAT") or ("0" if database_url else "1")
        if demo_beat not in {"0", "1"}:
            raise StandaloneError(f"DOWNBEAT_DEMO_BEAT: expected 0 or 1, got: {demo_beat!r}")
        return cls(
            port=int(port),
            data_dir=Path(environment.get("DATA_DIR") or ".downbeat").absolute(),
            database_url=database_url,
            has_beat=demo_beat == "1",
        )


def require_free_port(port: int) -> None:
    """Raises: PortTaken when something listens on the web port."""
    if not is_free(port):
        raise PortTaken(
            f"PORT {port} of {LOOPBACK} is taken by another program (or this user may not listen there). "
            f"Choose another: PORT={port + 1 if port < 65535 else 8000} make run"
        )


def require_database(url: str) -> None:
    """Raises: DatabaseUnusable unless `url` names a PostgreSQL database that lets us in within five seconds."""
    scheme, separator, _ = url.partition("://")
    if not separator or scheme not in DATABASE_SCHEMES:
        # The rest of it may hold a password.
        got = f"{scheme}://…" if separator else "no URL"
        raise DatabaseUnusable(f"DATABASE_URL: expected postgres://user:password@host:port/database, got: {got}")
    try:
        parse_database_url(url)
    except ValueError as error:
        raise DatabaseUnusable(f"DATABASE_URL: {error}") from None
    try:
        psycopg.connect(url, connect_timeout=5).close()
    except psycopg.Error as error:
        raise DatabaseUnusable(
            f"DATABASE_URL: expected a PostgreSQL database that lets us in, got: {error}\n"
            "Correct it, or leave it out: then Downbeat starts a PostgreSQL of its own."
        ) from error


def service_environment(options: Options, url: str, secret: str) -> dict[str, str]:
    """The environment of every process that is started; `secret` marks them as one supervisor's.

    With a Celery Beat, and no broker of the user's own, it names one in a folder of the data directory, which is made.
    """
    return dict(
        os.environ,
        **_broker(options),
        DATABASE_URL=url,
        DJANGO_SETTINGS_MODULE="backend.settings",
        DOWNBEAT_EMBEDDED="0" if options.database_url else "1",
        DOWNBEAT_SECRET_KEY=os.environ.get("DOWNBEAT_SECRET_KEY") or signing_key(options.data_dir),
        PYTHONUNBUFFERED="1",
        **{MARK: secret},
    )


def _broker(options: Options) -> dict[str, str]:
    is_named = any(os.environ.get(f"DOWNBEAT_CELERY_BROKER_{what}") for what in ("URL", "FOLDER"))
    if is_named or not options.has_beat:
        return {}
    return {"DOWNBEAT_CELERY_BROKER_FOLDER": str(make_private_folder(options.data_dir / BROKER))}


def prepare_database(options: Options, environment: Mapping[str, str], terminal: Terminal) -> Credentials:
    """Migrate, make the demo if it was never made, and write `credentials.json`.

    The demo's user gets `DOWNBEAT_ADMIN_PASSWORD`, else a random one at the first start on a data directory; later
    starts leave the password as it is. Raises: StandaloneError with the command's output when one fails.
    """
    terminal.say("downbeat", "making the tables")
    run_command("migrate", [*MANAGE, "migrate", "--no-input"], environment)
    terminal.say("downbeat", "making the demo data")
    known, chosen = known_password(options.data_dir), environment.get("DOWNBEAT_ADMIN_PASSWORD")
    password = chosen or known or new_password()
    keep = ["--keep-password"] if known is not None and not chosen else []
    beat = ["--with-beat"] if options.has_beat else []
    seeding = {**environment, "DOWNBEAT_ADMIN_PASSWORD": password}
    user = parse_seeded_user(run_command("seed_demo", [*SEED_DEMO, *keep, *beat], seeding))
    credentials = Credentials(
        url=f"http://{LOOPBACK}:{options.port}",
        username=user.username,
        password=password if user.has_password else "",
        token=user.token,
    )
    path = write_credentials(options.data_dir, credentials)
    if user.has_password and not keep:
        terminal.say("downbeat", f"the password of {user.username} was set to the one in {path}")
    return credentials


def run_command(name: str, argv: list[str], environment: Mapping[str, str]) -> str:
    """Run a command to its end and return its output, both streams.

    The command is in a session of its own; an exception here (a stop signal) ends it first. Raises: StandaloneError
    with the end of its output when it fails.
    """
    process = subprocess.Popen(
        argv, env=dict(environment), cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, errors="replace", start_new_session=True,
    )  # fmt: skip
    try:
        output, _ = process.communicate()
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    if process.returncode:
        end = "\n".join(output.splitlines()[-25:])
        raise StandaloneError(f"`{name}` failed with exit code {process.returncode}:\n{end}")
    return output
