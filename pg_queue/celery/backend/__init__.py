"""A Celery result backend in the queue's database: `result_backend = "downbeat://"`, or `downbeat+postgresql://…`.

- A task's state is one row, rewritten by each change; a success is final. It is written by a session of the backend's
  own, never by the caller's: what a task says of its progress is seen at once, also from inside a transaction.
- Who waits holds a shared advisory lock for the slots of what it waits for, and listens there (`ear`). Who stores a
  state tries that lock, and notifies only where somebody holds it. Each wait also looks by itself now and then.
- Chords count in the database (`chords`), once for each member, and send their callback once.
- `address` knows the URL, `sessions` the connections, `rows` the statements, `consumer` Celery's promises.

PostgreSQL only: the waiting needs NOTIFY and advisory locks, and the counting its row locks.
"""

from pg_queue.celery.backend.backend import DownbeatBackend

__all__ = ["DownbeatBackend"]
