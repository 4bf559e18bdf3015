"""A pytest plugin (`-p tests.session_server`): one PostgreSQL for the run, where `DATABASE_URL` is unset.

Of a run by several workers (`-n 3`) each has its own, so that no test sees another one's sessions, locks and roles.

A plugin and not a fixture, because pytest-django reads Django's settings, and with them `DATABASE_URL`, before it loads
any conftest.py. The server is ephemeral: what a killed run leaves is removed by the next run.
"""

from __future__ import annotations

import atexit
import gc
import os
from collections.abc import Iterator

import pytest

from backend.standalone.postgres import EmbeddedPostgres

gc.set_threshold(50_000)  # thousands of tests are collected, of which nothing is garbage
_server: EmbeddedPostgres | None = None


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> Iterator[None]:
    """Start the server; as a wrapper, before pytest-django's own implementation."""
    global _server  # pytest gives a plugin no other place before its configuration exists
    if not os.environ.get("DATABASE_URL") and not _only_hands_out(early_config):
        _server = EmbeddedPostgres.ephemeral()
        atexit.register(_server.discard)  # for a run that fails before it is configured
        os.environ["DATABASE_URL"] = _server.start()
    return (yield)


def pytest_collection_finish() -> None:
    """Look for garbage among what is new from here on, not among all tests time and again."""
    gc.collect()
    gc.freeze()


def _only_hands_out(config: pytest.Config) -> bool:
    """True in the process that hands the tests out to workers and runs none itself."""
    return bool(getattr(config.known_args_namespace, "numprocesses", 0)) and "PYTEST_XDIST_WORKER" not in os.environ


def pytest_report_header(config: pytest.Config) -> str:
    """Say which PostgreSQL the run is on."""
    if os.environ.get("DATABASE_URL") and not _server:
        return "postgresql: the one of DATABASE_URL"
    return f"postgresql: embedded, {'one for each worker' if _only_hands_out(config) else 'for this run'}"


@pytest.hookimpl(trylast=True)
def pytest_unconfigure() -> None:
    """Stop the server, whatever ended the run."""
    global _server
    if _server is not None:
        _server.discard()
        atexit.unregister(_server.discard)
        _server = None
        os.environ.pop("DATABASE_URL", None)
