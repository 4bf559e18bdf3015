"""A raw session of its own on the direct database: no Django connection, no pool, no proxy that shares sessions."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

import psycopg
from django.db import connections
from psycopg import sql

from pg_queue.errors import Configuration, DirectConnectionRequired
from pg_queue.settings import direct_alias
from pg_queue.sql import statements

_SQL = statements("sessions")

Session = psycopg.Connection[tuple[Any, ...]]

# Django's own objects among the parameters; a raw session wants psycopg's defaults.
_DJANGO_PARAMETERS = frozenset({"cursor_factory", "context", "prepare_threshold", "client_encoding", "pool"})

_CLIENT_DEFAULTS: Mapping[str, Any] = {
    "connect_timeout": 5,
    "keepalives": 1,
    "keepalives_idle": 2,
    "keepalives_interval": 1,
    "keepalives_count": 3,
    "tcp_user_timeout": 5000,
}
_PROBE_SESSIONS = 3


def direct_connection(
    application_name: str = "downbeat", *, alias: str | None = None, settings: Mapping[str, str] | None = None
) -> Session:
    """Open a session on this alias, or the direct one (`PG_QUEUE["DIRECT_DATABASE"]`, else `DATABASE`), in autocommit.

    `settings` are PostgreSQL parameters set for the session. Nobody else uses it; the caller closes it.

    Raises:
        Configuration: the alias is unknown, or not PostgreSQL.
        DirectConnectionRequired: a proxy gives one server session to several clients (PgBouncer in transaction or
            statement mode), where session locks, LISTEN and settings do not hold.
        psycopg.OperationalError: the server cannot be reached.
    """
    alias = alias or direct_alias()
    parameters = connection_parameters(alias) | {"application_name": application_name}
    session = psycopg.connect(**parameters, autocommit=True)
    try:
        _refuse_shared_session(session, alias, parameters)
        _assume_role(session, alias)
        for name, value in (settings or {}).items():
            session.execute(_SQL["set"], {"name": name, "value": value})
    except BaseException:
        session.close()
        raise
    return session


def plain_connection(application_name: str, *, alias: str) -> Session:
    """Open a session on this alias, in autocommit, also through a proxy that shares sessions: one statement at a time.

    Nobody else uses it; the caller closes it. Raises: Configuration; psycopg.OperationalError.
    """
    parameters = connection_parameters(alias) | {"application_name": application_name}
    session = psycopg.connect(**parameters, autocommit=True, prepare_threshold=None)
    try:
        _assume_role(session, alias)
    except BaseException:
        session.close()
        raise
    return session


def is_shared(session: Session, parameters: Mapping[str, Any]) -> bool:
    """True behind a proxy that gives one server session to several clients (PgBouncer in transaction mode)."""
    # Such a proxy hands out a backend key of its own, so the pid in it is not the server's.
    if session.info.backend_pid == _server_pid(session):
        return False
    try:
        return _changes_places(session, parameters)
    except psycopg.errors.ProtocolViolation:  # PgBouncer in statement mode refuses BEGIN.
        return True


def connection_parameters(alias: str) -> dict[str, Any]:
    """libpq's parameters for a Django alias. Raises `Configuration` where it is unknown or not PostgreSQL."""
    if alias not in connections.settings:
        known = ", ".join(sorted(connections.settings))
        raise Configuration(f"PG_QUEUE['DIRECT_DATABASE']: expected an alias of DATABASES ({known}), got: {alias!r}")
    wrapper = connections[alias]
    if wrapper.vendor != "postgresql":
        raise Configuration(f"DATABASES[{alias!r}]: expected PostgreSQL, got: {wrapper.vendor!r}")
    given = {name: value for name, value in wrapper.get_connection_params().items() if name not in _DJANGO_PARAMETERS}
    return dict(_CLIENT_DEFAULTS) | given


def _assume_role(session: Session, alias: str) -> None:
    """Django's own option of the alias: the tables may be that role's alone."""
    if role := connections[alias].settings_dict["OPTIONS"].get("assume_role"):
        session.execute(sql.SQL(_SQL["assume_role"]).format(role=sql.Identifier(role)))


def _refuse_shared_session(session: Session, alias: str, parameters: Mapping[str, Any]) -> None:
    if is_shared(session, parameters):
        raise DirectConnectionRequired(_advice(alias))


def _changes_places(session: Session, parameters: Mapping[str, Any]) -> bool:
    """While `session` is idle, open transactions beside it: in transaction mode one of them gets its server session,
    or its next transaction gets another one."""
    before = _server_pid(session)
    with ExitStack() as stack:
        for _ in range(_PROBE_SESSIONS):
            other = stack.enter_context(psycopg.connect(**parameters))
            stack.enter_context(other.transaction())
            if _server_pid(other) == before:
                return True
        return _server_pid(session) != before


def _server_pid(session: Session) -> int:
    row = session.execute(_SQL["server_pid"], prepare=False).fetchone()
    assert row is not None
    return int(row[0])


def _advice(alias: str) -> str:
    return (
        f"DATABASES[{alias!r}]: expected a direct connection to PostgreSQL, got: a proxy that shares sessions "
        "between clients (PgBouncer in transaction or statement mode), where session locks and LISTEN cannot work. Add "
        "an alias to DATABASES that connects to PostgreSQL itself, and name it in PG_QUEUE['DIRECT_DATABASE']; in the "
        "stand-alone service set DOWNBEAT_DIRECT_DATABASE_URL"
    )
