"""Results in Redis 7 or later.

A result is a hash that Redis itself lets expire. Two sorted sets hold the ids by completion and by expiry; they make
counting exact, and deleting by completion time a range. Every change of a hash and of the sets is one script, so no
crash and no other client comes between. All keys share one hash tag: a cluster keeps them together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from importlib.resources import files
from typing import Any, TypeVar
from uuid import UUID

from pg_queue.errors import Configuration, ResultRefused, ResultsUnavailable
from pg_queue.results.domain import Outcome, Result
from pg_queue.results.rows import Row, chunks, chunks_by_size, decode_result, encode_outcomes, readable
from pg_queue.settings import QueueSettings

T = TypeVar("T")

CHUNK_ROWS = 250
CHUNK_BYTES = 4 << 20
TIMEOUT_SECONDS = 5.0
"""How long one command may take, and the connection to be made."""
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)


class RedisResults:
    """Implements `pg_queue.results.ports.ResultStore` on the server `PG_QUEUE["RESULTS"]["URL"]`.

    Redis must not evict (`maxmemory-policy noeviction`): what it evicts is lost without a word, and still counted.
    """

    def __init__(self, conf: QueueSettings) -> None:
        """Connects at the first call. Raises: Configuration when the driver is missing or the URL is none."""
        assert conf.results is not None
        self._conf = conf
        self._client = _client(conf.results.url or "")
        tag = f"{{{conf.results.prefix}}}"
        self._key = f"{tag}:result:"
        self._indexes = [f"{tag}:results:finished", f"{tag}:results:expiring"]
        self._scripts: dict[str, Any] = {}

    def put(self, outcomes: Sequence[Outcome]) -> None:
        """See the port. Each chunk is one script."""
        rows = encode_outcomes(
            outcomes, ttl_seconds=self._conf.results_ttl_seconds, max_bytes=self._conf.max_result_bytes
        )
        for chunk in chunks_by_size(rows, count=CHUNK_ROWS, size=CHUNK_BYTES):
            keys = [*self._indexes, *(self._key_of(row.message_id) for row in chunk)]
            self._run("put", keys, [argument for row in chunk for argument in _arguments(row)])

    def get(self, message_ids: Iterable[UUID]) -> Mapping[UUID, Result]:
        """See the port."""
        found: dict[UUID, Result] = {}
        for chunk in chunks(message_ids, CHUNK_ROWS):
            hashes = zip(chunk, self._ask(lambda: self._read(chunk)), strict=True)  # noqa: B023 - called at once
            found |= readable((one, partial(_decode, one, fields)) for one, fields in hashes if fields)
        return found

    def forget(self, message_ids: Iterable[UUID]) -> int:
        """See the port."""
        return sum(
            int(self._run("forget", self._indexes, [self._key, *(message_id.hex for message_id in chunk)]))
            for chunk in chunks(message_ids, CHUNK_ROWS)
        )

    def clear(self, *, completed_before: datetime, limit: int) -> int:
        """See the port."""
        return self._sweep(1, f"({_microseconds(completed_before)}", limit)

    def expire(self, *, limit: int) -> int:
        """See the port. Redis has deleted them itself, or is about to: this takes them out of the indexes."""
        return self._sweep(2, "", limit)

    def count(self) -> int:
        """See the port."""
        return int(self._run("count", self._indexes, []))

    def now(self) -> datetime:
        """See the port."""
        seconds, microseconds = self._ask(self._client.time)
        return EPOCH + timedelta(seconds=seconds, microseconds=microseconds)

    def _sweep(self, index: int, highest: str, limit: int) -> int:
        return int(self._run("sweep", self._indexes, [self._key, index, highest, limit]))

    def _read(self, message_ids: Sequence[UUID]) -> list[dict[str, str]]:
        with self._client.pipeline(transaction=False) as pipeline:
            for message_id in message_ids:
                pipeline.hgetall(self._key_of(message_id))
            return list(pipeline.execute())

    def _key_of(self, message_id: UUID) -> str:
        return f"{self._key}{message_id.hex}"

    def _run(self, name: str, keys: Sequence[str], arguments: Sequence[Any]) -> Any:
        if name not in self._scripts:
            source = files("pg_queue.results").joinpath(f"lua/{name}.lua").read_text(encoding="utf-8")
            self._scripts[name] = self._client.register_script(source)
        return self._ask(lambda: self._scripts[name](keys=keys, args=arguments))

    def _ask(self, action: Callable[[], T]) -> T:
        """Raises: ResultsUnavailable, also when Redis is full, read-only or still loading."""
        from redis.exceptions import DataError, RedisError

        try:
            return action()
        except DataError as error:
            raise ResultRefused(f"results in Redis: {error}") from error
        except (RedisError, OSError) as error:
            raise ResultsUnavailable(f"results in Redis: {str(error) or type(error).__name__}") from error


def _client(url: str) -> Any:
    try:
        import redis
        from redis.backoff import NoBackoff
        from redis.retry import Retry
    except ModuleNotFoundError as error:
        raise Configuration(
            "PG_QUEUE['RESULTS']['BACKEND']: 'redis' needs a driver: pip install 'django-downbeat[redis]'"
        ) from error
    try:
        return redis.Redis.from_url(
            url,
            decode_responses=True,
            socket_timeout=TIMEOUT_SECONDS,
            socket_connect_timeout=TIMEOUT_SECONDS,
            retry=Retry(NoBackoff(), 1),  # a session that was lost since; more patience is the caller's to have
        )
    except ValueError as error:
        raise Configuration(f"PG_QUEUE['RESULTS']['URL']: expected the URL of a Redis server: {error}") from error


def _arguments(row: Row) -> list[str | int]:
    return [
        row.message_id.hex,
        row.namespace,
        row.state,
        row.value or "",
        row.error or "",
        row.attempts,
        _microseconds(row.started_at),
        row.ttl_milliseconds or 0,
    ]


def _decode(message_id: UUID, fields: Mapping[str, str]) -> Result:
    return decode_result(
        message_id=message_id,
        namespace=fields["namespace"],
        state=fields["state"],
        value=fields["value"] or None,
        error=fields["error"] or None,
        attempts=int(fields["attempts"]),
        finished_at=EPOCH + int(fields["finished_at"]) * MICROSECOND,
    )


def _microseconds(instant: datetime) -> int:
    return (instant - EPOCH) // MICROSECOND
