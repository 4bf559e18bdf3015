"""Drives the real `run` with cheap stand-ins for the services: `python -m tests.backend.standalone.fake_service`.

The stand-ins print, stop at SIGTERM, and can be told by FAKE_MODE to misbehave: `stubborn` ignores SIGTERM, `forking`
leaves a grandchild in a session of its own.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping

from backend.standalone import supervisor
from backend.standalone.children import ChildSpec
from backend.standalone.credentials import Credentials, known_password, new_password, write_credentials
from backend.standalone.output import Terminal
from backend.standalone.preparation import Options
from backend.standalone.run import run
from backend.standalone.services import Ports

STOP_SECONDS = float(os.environ.get("FAKE_STOP_SECONDS", "1"))


def services(_options: Options, _ports: Ports) -> list[ChildSpec]:
    """Two stand-ins."""
    argv = (sys.executable, "-m", "tests.backend.standalone.fake_service", "serve")
    return [ChildSpec(name=name, argv=argv, stop_seconds=STOP_SECONDS) for name in ("first", "second")]


def prepare(options: Options, _environment: Mapping[str, str], _terminal: Terminal) -> Credentials:
    """Writes credentials for nobody."""
    password = known_password(options.data_dir) or new_password()
    credentials = Credentials(url="", username="admin", password=password, token="t")
    write_credentials(options.data_dir, credentials)
    return credentials


def serve() -> None:
    """Be a service."""
    mode = os.environ.get("FAKE_MODE", "")
    if mode == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    else:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    if mode == "forking":
        subprocess.Popen(["sleep", "300"], start_new_session=True)
    print(f"serving as {os.getpid()}", flush=True)  # noqa: T201
    while True:
        time.sleep(60)


if __name__ == "__main__":
    if sys.argv[1:] == ["serve"]:
        serve()
    supervisor.SAME_REQUEST_SECONDS = float(os.environ.get("FAKE_SAME_REQUEST_SECONDS", "1"))
    raise SystemExit(run(prepare, services))
