"""One run of desktop mode: the lock, the tables, the user, the parts, the web, and all of it back."""

from __future__ import annotations

import gc
import io
import os
import signal
import sys
import time
from dataclasses import dataclass
from types import FrameType
from typing import NoReturn

from backend.mode import VARIABLE, Mode
from backend.standalone.credentials import (
    CREDENTIALS,
    Credentials,
    known_password,
    new_password,
    parse_seeded_user,
    signing_key,
    write_credentials,
)
from backend.standalone.errors import DatabaseUnusable, StandaloneError
from backend.standalone.output import Terminal
from backend.standalone.placement import make_private_folder
from backend.standalone.ports import LOOPBACK
from backend.standalone.preparation import Options, require_free_port
from backend.standalone.remnants import Tenure

FILE = "desktop.sqlite3"
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Start:
    options: Options
    terminal: Terminal
    began_at: float


def run() -> int:
    """Serve until a stop signal; the exit code: 0 after one, 1 when it could not start, with the reason on stderr."""
    began_at = time.monotonic()
    for number in STOP_SIGNALS:
        signal.signal(number, _leave)
    try:
        options = Options.from_environment(os.environ)
        tenure = Tenure(make_private_folder(options.data_dir))
        try:
            tenure.reclaim()
            require_free_port(options.port)
            _serve(_Start(options=options, terminal=Terminal(), began_at=began_at))
        finally:
            tenure.end()
    except SystemExit:
        return 0
    except StandaloneError as error:
        print(f"Downbeat cannot run: {error}", file=sys.stderr)  # noqa: T201
        return 1
    return 0


def _leave(number: int, frame: FrameType | None) -> NoReturn:
    """The first signal is the way out; more of them change nothing, since every step of it is bounded."""
    for one in STOP_SIGNALS:
        signal.signal(one, signal.SIG_IGN)
    raise SystemExit(0)


def _serve(start: _Start) -> None:
    _set_up(start.options)
    # Django's settings exist from here on.
    from backend.desktop.parts import Parts, serve_web
    from backend.desktop.tables import make_tables

    if make_tables():
        start.terminal.say("downbeat", f"the tables were made in {start.options.data_dir / FILE}")
    credentials = _make_user(start.options)
    parts = Parts.started()
    try:
        serve_web(start.options.port, on_open=lambda: _show(start, credentials))
    finally:
        start.terminal.say("downbeat", "stopping" if parts.stop() else "stopped; what still ran is run again")


def _set_up(options: Options) -> None:
    """Make the environment what `backend.settings` reads, and load the apps."""
    url = options.database_url or f"sqlite:///{options.data_dir / FILE}"
    if not url.startswith("sqlite:"):
        scheme = url.partition(":")[0]
        raise DatabaseUnusable(
            f"DATABASE_URL: expected sqlite:////path/of/the/file.sqlite3 or nothing in desktop mode, got: {scheme}:…"
        )
    os.environ.update({VARIABLE: Mode.DESKTOP.value, "DATABASE_URL": url})
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "backend.settings")
    if not os.environ.get("DOWNBEAT_SECRET_KEY"):
        os.environ["DOWNBEAT_SECRET_KEY"] = signing_key(options.data_dir)
    import django

    gc.disable()  # what is loaded is no garbage, and to look for some takes a fifth of the time
    django.setup()
    gc.freeze()
    gc.enable()


def _make_user(options: Options) -> Credentials:
    """Make the demo if it was never made, with its user; write `credentials.json`."""
    from django.core.management import call_command

    known, chosen = known_password(options.data_dir), os.environ.get("DOWNBEAT_ADMIN_PASSWORD")
    password = chosen or known or new_password()
    os.environ["DOWNBEAT_ADMIN_PASSWORD"] = password
    output = io.StringIO()
    keep = known is not None and not chosen
    call_command("seed_demo", json=True, keep_password=keep, skip_checks=True, stdout=output)
    user = parse_seeded_user(output.getvalue())
    credentials = Credentials(
        url=f"http://{LOOPBACK}:{options.port}",
        username=user.username,
        password=password if user.has_password else "",
        token=user.token,
    )
    write_credentials(options.data_dir, credentials)
    return credentials


def _show(start: _Start, credentials: Credentials) -> None:
    seconds = time.monotonic() - start.began_at
    data_dir = start.options.data_dir
    start.terminal.show(
        "\n".join(
            [
                "",
                f"  Downbeat runs as one process, {seconds:.1f} s after its start. Ctrl-C stops it.",
                "",
                f"  Admin      {credentials.url}/admin/",
                f"  API docs   {credentials.url}/api/docs/",
                f"  Username   {credentials.username or 'one of your own: the demo user was deleted'}",
                f"  Password   {credentials.password or 'not known here: it was changed'}",
                f"  Token      in {data_dir / CREDENTIALS}",
                f"  Data       {os.environ['DATABASE_URL'].removeprefix('sqlite:///')}",
                "",
            ]
        )
    )
