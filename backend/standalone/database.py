"""`python -m backend.standalone.database`: the embedded PostgreSQL of a data directory, by hand."""

from __future__ import annotations

import argparse
import os
import sys

from backend.standalone.errors import StandaloneError
from backend.standalone.postgres import EmbeddedPostgres


def main(arguments: list[str] | None = None) -> int:
    """Start, stop, show or remove the embedded PostgreSQL of a data directory."""
    parser = argparse.ArgumentParser(prog="python -m backend.standalone.database", description=main.__doc__)
    parser.add_argument("command", choices=["start", "stop", "status", "url", "discard"])
    parser.add_argument("--data-dir", default=os.environ.get("DATA_DIR", ".downbeat"), help="default: %(default)s")
    options = parser.parse_args(arguments)
    try:
        print(_run(options.command, EmbeddedPostgres(options.data_dir)))  # noqa: T201
    except StandaloneError as error:
        print(error, file=sys.stderr)  # noqa: T201
        return 1
    return 0


def _run(command: str, server: EmbeddedPostgres) -> str:
    if command == "start":
        return server.start()
    if command == "url":
        return server.url
    if command == "stop":
        server.stop()
    elif command == "discard":
        server.discard()
    pid = server.pid if command != "discard" else None
    return f"running, pid {pid}, port {server.port}, data in {server.cluster.data}" if pid else "not running"


if __name__ == "__main__":
    raise SystemExit(main())
