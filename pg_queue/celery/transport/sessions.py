"""A consumer's own session: apart from Django's connections, which Celery closes and whose transactions are the tasks'.

The statements are those of the store; the errors are Django's, as they are there.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace

import psycopg
from django.db.utils import DatabaseErrorWrapper, InterfaceError, OperationalError

from pg_queue.celery.transport.address import Address
from pg_queue.errors import DirectConnectionRequired
from pg_queue.session import Session, connection_parameters, direct_connection
from pg_queue.sql import statements
from pg_queue.storage.postgres import PostgresStore
from pg_queue.storage.postgres.connection import StoreConnection
from pg_queue.storage.rows import Row

logger = logging.getLogger(__name__)

_BROKER, _MESSAGES = statements("broker"), statements("messages")
_ERRORS = SimpleNamespace(Database=psycopg, errors_occurred=False)


class OwnSession(StoreConnection):
    """One psycopg session in autocommit, opened at once. Safe in parallel: one statement or transaction at a time."""

    def __init__(self, address: Address, *, name: str) -> None:
        """Raises: Django's OperationalError."""
        super().__init__(address.alias)
        self.is_direct = True
        self._heard: list[str] = []
        with DatabaseErrorWrapper(_ERRORS):
            self._session = self._open(address, name)
            if not address.options.durable_acks:
                self._session.execute(_BROKER["relax"])
        self._session.add_notify_handler(lambda notice: self._heard.append(notice.payload))

    @property
    def is_open(self) -> bool:
        """False once it was closed or lost."""
        return not self._session.closed

    def fileno(self) -> int:
        """Readable when there is something to hear."""
        return self._session.fileno()

    def listen(self, is_on: bool) -> None:
        """Hear NOTIFY from now on, or no longer: who does not listen to what is said would hold up the server."""
        if self.is_direct:
            with DatabaseErrorWrapper(_ERRORS):
                self._session.execute(_MESSAGES["listen"] if is_on else _BROKER["unlisten"])

    def hear(self) -> list[str]:
        """What was said since the last call, without waiting: namespace, a blank, the queue.

        Not by `notifies`, which before psycopg 3.2.4 lost what came with another statement's answer.
        """
        with DatabaseErrorWrapper(_ERRORS), self._session.lock:
            pgconn = self._session.pgconn
            pgconn.consume_input()
            while notice := pgconn.notifies():
                self._heard.append(notice.extra.decode())
        heard, self._heard = self._heard, []
        return heard

    @contextmanager
    def atomic(self, *, savepoint: bool = True) -> Iterator[None]:
        """A transaction, or a savepoint inside of one."""
        with DatabaseErrorWrapper(_ERRORS), self._session.transaction():
            yield

    def close(self) -> None:
        """Give it up."""
        self._session.close()

    @contextmanager
    def _cursor(self) -> Iterator[psycopg.Cursor[Row]]:
        if self._session.closed:
            raise InterfaceError("the session is closed")
        with DatabaseErrorWrapper(_ERRORS), self._session.cursor() as cursor:
            yield cursor

    def _open(self, address: Address, name: str) -> Session:
        """A direct session; where a proxy shares sessions, one through it, on which nothing is heard."""
        try:
            return direct_connection(name, alias=address.direct)
        except DirectConnectionRequired as error:
            logger.warning("transport.listen_refused consumers only poll; %s", error)
        self.is_direct = False
        parameters = connection_parameters(address.alias) | {"application_name": name}
        return psycopg.connect(**parameters, autocommit=True, prepare_threshold=None)


def store_on(session: OwnSession, address: Address) -> PostgresStore:
    """The store, its statements on this session."""
    return PostgresStore(address.conf, replace(address.place), connection=session)


def check(address: Address) -> None:
    """Open a session and close it again: does the server answer, and has it our tables?

    Raises: Django's OperationalError, also where the tables are missing: migrations may be under way.
    """
    session = OwnSession(address, name="downbeat broker check")
    try:
        ((has_tables,),) = session.fetch(_BROKER["has_tables"], {})
    finally:
        session.close()
    if not has_tables:
        raise OperationalError(
            f"expected the queue's tables in the database {address.alias!r}, got: none. Run `manage.py migrate`"
        )
