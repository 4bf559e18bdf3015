"""One pass of the leader: find what is due, fire it, advance it.

A pass is a row of batches, oldest first. What Python has to evaluate for a batch is evaluated before its transaction,
which is one on the leader's session, opened by its stamp, with the same number of statements however many rows it
fires. Messages and ledger rows are inserted for the very rows that it has advanced, so the three cannot disagree.
docs/explanation/tick.md tells the races.

- `contract`: what a tick promises, and the pass itself: batches made smaller, the row found that spoils one;
- `postgres`: a batch as one statement, decided by the server;
- `decisions`: the same decision in Python, for databases that cannot state it;
- `sqlite`: a batch read, decided there, and written back.
"""

from __future__ import annotations

from collections.abc import Callable

from pg_queue.api import Leadership, PostgresLeadership, SqliteLeadership
from scheduler.tick.contract import Pass, Tick, id_prefix
from scheduler.tick.postgres import PostgresTick
from scheduler.tick.sqlite import SqliteTick

__all__ = ["Pass", "PostgresTick", "SqliteTick", "Tick", "id_prefix", "make_shadow", "make_tick", "prepare"]


def make_tick(
    leadership: Leadership, *, batch: int | None = None, is_stopping: Callable[[], bool] = lambda: False
) -> Tick:
    """The tick of this leadership's database. The parameters are `Tick`'s."""
    if isinstance(leadership, SqliteLeadership):
        return SqliteTick(leadership, batch=batch, is_stopping=is_stopping)
    return PostgresTick(_of_postgres(leadership), batch=batch, is_stopping=is_stopping)


def make_shadow(leadership: Leadership, *, is_stopping: Callable[[], bool] = lambda: False) -> Tick | None:
    """The tick of what Beat fires, which records and enqueues nothing; None: on this database Beat fires nothing."""
    if isinstance(leadership, SqliteLeadership):
        return None
    return PostgresTick(_of_postgres(leadership), is_stopping=is_stopping, is_shadow=True)


def prepare(dialect: str) -> None:
    """Do what a tick needs once per process; best before it leads, since it imports the project's tasks: that is slow.

    `dialect` as `scheduler.dialect` names it.
    """
    {"postgres": PostgresTick.prepare, "sqlite": SqliteTick.prepare}[dialect]()


def _of_postgres(leadership: Leadership) -> PostgresLeadership:
    if not isinstance(leadership, PostgresLeadership):
        raise TypeError(f"leadership: expected one on PostgreSQL or SQLite, got: {type(leadership).__qualname__}")
    return leadership
