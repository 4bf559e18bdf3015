"""The queue in Redis: each operation is one script on the server, which happens whole or not at all.

The scripts are in `pg_queue/lua/`; what they keep, under which keys, is said at the head of each. This side packs a
request, has its script run, and makes the queue's words of the answer.

- The server's clock decides: scripts ask it for the time, clients never say what time it is.
- Nothing has an expiry of Redis's own: what outlives its time is deleted by the reaper, as in any store.
- A script that has begun is finished by the server, whatever becomes of the client. A client that was cut off before it
  had the answer does not know whether it was: `StoreUnavailable`. Nothing is tried again in silence.
- What a restart of the server leaves is a matter of its persistence: docs/howto/redis.md.
"""

from pg_queue.storage.redis.store import RedisStore

__all__ = ["RedisStore"]
