"""The queue in a replica set of MongoDB. Experimental: it has not passed its contract on a live server yet.

- A message is claimed by one atomic update of its document, which finds it only while it waits. All else that touches
  several documents is a multi-document transaction: of two that write one document, the later begins anew.
- The clock is the primary's: every operation asks it first (`hello`), and no client says what time it is.
- What is acknowledged is on the disks of a majority (write concern `majority`, journalled).
- An enqueue that was committed touches a document of `wakes` for its queue; a change stream of that collection wakes
  the workers.
- No Celery, no Django database: docs/howto/mongodb.md says what it promises and what not.
"""

from pg_queue.storage.mongodb.store import MongoStore

__all__ = ["MongoStore"]
