"""Election of one leader among any number of processes, and the session that it leads on.

`candidacy(name)` stands for the lead on whatever database the queue lives in. Everything that only the leader may do is
done in `Leadership.transaction()`: a leader that lost the lead cannot commit one, whatever it still believes.

**On PostgreSQL** the authority is the server: whoever's session holds the advisory lock of the election leads, and the
leader's transactions are those of that very session, so that one that lost the lock has lost its transaction too.

States of a process: *standby* (its session waits for the lock) → *leader* (its session holds it, and the leader row
carries its term) → gone. A session is never used again after an error; the process begins again as a standby.

What happens when the leader

- stops in good order: it finishes its transaction, stamps the end of its term and unlocks; the waiting standby has the
  lock within milliseconds;
- is killed, or its connection drops: the server ends the session, rolls back and unlocks; the same;
- is frozen, or cut off from the network: its session runs into `idle_session_timeout`,
  `idle_in_transaction_session_timeout` or `statement_timeout` (5 s each) and is ended by the server. Should that fail,
  a standby that reads a stamp older than 10 s terminates it, after checking that this session holds this lock and is
  the one that wrote the stamp;
- thaws after that: its next statement fails, so nothing that it had in hand is committed.

And against everything else each transaction of the leader begins by stamping the leader row where the term and the
session are its own (`Leadership.transaction`). No row: `LeadershipLost`, nothing is committed. The same statement
allows each that follows 3 s: a batch that takes longer is rolled back, before it costs the session or makes the stamp
stale.

A standby never waits without end: a long wait would hold back VACUUM in the whole database.

**On SQLite** there is no server, and no session that could end: the authority is the leader row. It carries the term,
and with each stamp a lease of 5 s. States: *standby* (reads the row, some twenty times a second) → *leader* (has
counted the term up by one, in one statement, because the lease was over or the leader before had resigned) → gone.

A transaction of the leader takes the file's one write lock when it begins (BEGIN IMMEDIATE), then stamps the row where
the term is its own. Counting the term up takes the same lock. So either the stamp finds another term and nothing is
committed, or nobody else can begin a term before the commit.

What happens when the leader

- stops in good order: it stamps the end of its term, and the standby has the lead at its next look;
- is killed: the system gives its locks back and the next opener rolls its transaction back; the standby has the lead
  when the lease is over;
- is frozen between two transactions: the same, and when it thaws its next transaction finds another term:
  `LeadershipLost`;
- is frozen within a transaction: it holds the file's write lock, and nobody can write anything until it thaws or is
  killed. Its transaction is then still the lead's, and may be committed.

The lease is measured by the machine's clock, which all processes on a file of SQLite share. A clock that is put forward
ends it early, one that is put back may double it; neither makes two leaders, since the term decides.
"""

import sqlite3

import psycopg
from django.db import connections

from pg_queue.leader.contract import STAMP_SECONDS, Election, Leadership
from pg_queue.leader.postgres import PostgresElection, PostgresLeadership
from pg_queue.leader.sqlite import SqliteElection, SqliteLeadership
from pg_queue.settings import direct_alias

__all__ = [
    "SESSION_ERRORS",
    "STAMP_SECONDS",
    "Election",
    "Leadership",
    "PostgresElection",
    "PostgresLeadership",
    "SqliteElection",
    "SqliteLeadership",
    "candidacy",
]

SESSION_ERRORS = (psycopg.Error, sqlite3.Error)
"""What a leader's session raises that is in trouble, or whose database is."""


def candidacy(name: str) -> Election:
    """Stand for the lead called `name` on the queue's database, whichever it is."""
    if direct_alias() in connections.settings and connections[direct_alias()].vendor == "sqlite":
        return SqliteElection(name=name)
    return PostgresElection(name=name)  # refuses what is neither, and an alias that is unknown, when it connects
