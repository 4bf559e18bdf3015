"""Election of one leader among any number of processes, and the session that it leads on.

The authority is PostgreSQL: whoever's session holds the advisory lock of the election leads. Everything that only the
leader may do is done in transactions of that very session, so a leader that lost the lock has lost its transaction too,
whatever it still believes.

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
"""

from pg_queue.leader.election import STAMP_SECONDS, Election, Leadership
from pg_queue.leader.session import direct_connection

__all__ = ["STAMP_SECONDS", "Election", "Leadership", "direct_connection"]
