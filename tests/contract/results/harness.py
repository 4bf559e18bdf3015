"""What the contract needs of each store of results besides its port: a clean slate, and the passing of time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

from django.db import connections
from redis import Redis

from pg_queue.results.database import DatabaseResults
from pg_queue.results.models import StoredResult
from pg_queue.results.ports import ResultStore
from pg_queue.results.redis import RedisResults
from pg_queue.settings import parse
from tests.places import ALIAS, TABLE, Place, forget_redis


class Harness:
    """One store under test, with nothing in it."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.store = self.made()
        self.clear()

    def made(self, **results: Any) -> ResultStore:
        """The store, with further keys of `PG_QUEUE["RESULTS"]`."""
        conf = parse({"RESULTS": {**self.place.results, **results}})
        return RedisResults(conf) if self.place.name == "redis" else DatabaseResults(conf)

    def clear(self) -> None:
        """Forget everything."""
        if self.place.name == "redis":
            with self._redis() as client:
                forget_redis(client, self.place.results["PREFIX"])
        else:
            self._execute(f"DELETE FROM {TABLE}")

    def rows(self) -> int:
        """How many results take up room, past their time or not."""
        if self.place.name == "redis":
            with self._redis() as client:
                return int(client.zcard(f"{self._tag}:results:finished"))
        return int(self._execute(f"SELECT count(*) FROM {TABLE}")[0])

    def spoil(self, message_id: UUID) -> None:
        """Give the result of a message by hand a value of more digits than Python converts."""
        if self.place.name == "redis":
            with self._redis() as client:
                client.hset(f"{self._tag}:result:{message_id.hex}", "value", "9" * 5000)
        else:
            StoredResult.objects.using(ALIAS).filter(pk=message_id).update(value="9" * 5000)

    def advance(self, seconds: int) -> None:
        """Every stored instant moves into the past: the same as the store's clock moving on."""
        MOVES[self.place.name](self, seconds)

    def move_sql(self, moved: str, seconds: int) -> None:
        """`moved` is SQL with the places {column} and {by}."""
        columns = ("finished_at", "expires_at")
        moves = ", ".join(f"{column} = {moved.format(column=column, by=seconds)}" for column in columns)
        self._execute(f"UPDATE {TABLE} SET {moves}")

    def move_redis(self, seconds: int) -> None:
        """The instants are in the hashes, in their expiry, and in both indexes."""
        with self._redis() as client:
            finished, expiring = f"{self._tag}:results:finished", f"{self._tag}:results:expiring"
            for member, score in client.zscan_iter(expiring):
                client.zincrby(expiring, -seconds * 1000, member)
                client.pexpireat(f"{self._tag}:result:{member.decode()}", int(score) - seconds * 1000)
            for member, _ in client.zscan_iter(finished):
                client.zincrby(finished, -seconds * 1_000_000, member)
                if client.exists(key := f"{self._tag}:result:{member.decode()}"):
                    client.hincrby(key, "finished_at", -seconds * 1_000_000)

    @property
    def _tag(self) -> str:
        return f"{{{self.place.results['PREFIX']}}}"

    def _redis(self) -> Redis:
        return Redis.from_url(self.place.results["URL"])

    def _execute(self, statement: str) -> Any:
        with connections[ALIAS].cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchone() if cursor.description else None


MOVES: dict[str, Callable[[Harness, int], None]] = {
    "postgresql": lambda harness, by: harness.move_sql("{column} - make_interval(secs => {by})", by),
    "mariadb": lambda harness, by: harness.move_sql("{column} - INTERVAL {by} SECOND", by),
    "sqlite": lambda harness, by: harness.move_sql("strftime('%Y-%m-%d %H:%M:%f', {column}, '-{by} seconds')", by),
    "mssql": lambda harness, by: harness.move_sql("DATEADD(second, -{by}, {column})", by),
    "redis": Harness.move_redis,
}
