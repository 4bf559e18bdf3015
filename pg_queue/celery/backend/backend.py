"""The result backend that Celery makes of `result_backend = "downbeat://"`."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Collection, Iterator, Mapping
from functools import partial
from typing import Any, TypeVar

from celery import states
from celery.backends.asynchronous import AsyncBackendMixin
from celery.backends.base import Backend
from celery.exceptions import TimeoutError
from celery.result import GroupResult, ResultSet, result_from_tuple
from celery.utils.functional import _regen  # type: ignore[attr-defined]
from celery.utils.log import get_logger
from celery.utils.time import humanize_seconds
from kombu.serialization import loads
from kombu.utils.encoding import bytes_to_str, ensure_bytes
from kombu.utils.functional import retry_over_time

from pg_queue.celery.backend.address import parse_address
from pg_queue.celery.backend.chords import RECOVER_SECONDS, ChordRows, Part, Turn
from pg_queue.celery.backend.closing import close_chord, recover_chords
from pg_queue.celery.backend.consumer import ResultConsumer
from pg_queue.celery.backend.errors import too_large
from pg_queue.celery.backend.rows import Encoded, ResultRows
from pg_queue.celery.backend.sessions import LOST_CONNECTION, Sessions

T = TypeVar("T")

logger = get_logger(__name__)

UNENDED_SECONDS = 30 * 86400.0
"""How much longer than a result the state of a task is kept that has not ended, and a chord that is open."""
RETAIN_BATCH = 1000


class DownbeatBackend(AsyncBackendMixin, Backend):
    """Keeps Celery's results in PostgreSQL. One for each app and process: any thread or greenlet may use it.

    A statement that fails because its session was lost is tried again, as `result_backend_transport_options` says under
    `retry_policy` (Celery's names; 20 times, up to a second apart). Each does no more when it is done twice.
    """

    # What Celery's base sets, and its published types leave out.
    app: Any
    url: str
    accept: Any
    expires: float | None
    content_type: str
    content_encoding: str
    _cache: Any
    _pending_results: Any
    _pending_messages: Any
    _sleep: Callable[[float], None]
    _get_result_meta: Callable[..., dict[str, Any]]

    supports_native_join = True
    supports_autoexpire = False
    """So that Celery Beat sends `celery.backend_cleanup`, for those who have no reaper."""
    supports_result_compression = True
    supports_failure_expires = True

    def __init__(self, app: Any, url: str | None = None, **kwargs: Any) -> None:
        """Connects when it is first needed. Raises: ImproperlyConfigured."""
        super().__init__(app, url=url or "downbeat://", **kwargs)
        self.thread_safe = True
        self.address = parse_address(self.url)
        self.sessions = Sessions(self.address.connect)
        self.rows = ResultRows(self.address, self.sessions)
        self.chords = ChordRows(self.address, self.sessions)
        self.result_consumer = ResultConsumer(
            self, self.app, self.accept, self._pending_results, self._pending_messages
        )
        failure_expires = app.conf.get("result_failure_expires")
        self.failure_expires = self.expires if failure_expires is None else self.prepare_expires(failure_expires)
        options = app.conf.get("result_backend_transport_options") or {}
        self.retry_policy = {**Backend.retry_policy, **options.get("retry_policy", {})}
        self._recovery = Turn(RECOVER_SECONDS)

    def metas(self, task_ids: Collection[str]) -> list[dict[str, Any]]:
        """What is known of these tasks. One that cannot be read has failed with the reason."""
        return [self._readable(task_id, meta) for task_id, meta in self.ensured(self.rows.get, task_ids).items()]

    def get_many(
        self,
        task_ids: Collection[str],
        timeout: float | None = None,
        interval: float | None = 0.5,
        no_ack: bool = True,
        on_message: Callable[[dict[str, Any]], None] | None = None,
        on_interval: Callable[[], None] | None = None,
        max_iterations: int | None = None,
        READY_STATES: Collection[str] = states.READY_STATES,
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        """Each task's meta as soon as it has ended, all of them asked for by one statement.

        Raises: TimeoutError. After `max_iterations` looks it ends, whatever is left.
        """
        left, looks, waited = set(task_ids), 0, 0.0
        while True:
            for task_id, meta in self._ended(left, READY_STATES):
                left.discard(task_id)
                if on_message is not None:
                    on_message(meta)
                yield task_id, meta
            looks += 1
            if not left or looks == max_iterations:
                return
            if timeout is not None and waited >= timeout:
                raise TimeoutError(f"The operation timed out ({timeout}).")
            if on_interval:
                on_interval()
            pause = interval or 0.5 if timeout is None else min(interval or 0.5, timeout - waited)
            self._sleep(pause)
            waited += pause

    def iter_native(self, result: ResultSet, no_ack: bool = True, **kwargs: Any) -> Iterator[tuple[str, Any]]:
        """See Celery's; nothing for nothing."""
        if result.results:
            yield from super().iter_native(result, no_ack=no_ack, **kwargs)

    def task_result_exists(self, task_id: str) -> bool:
        """Whether anything is known of the task, whatever its state."""
        return bool(self.ensured(self.rows.get, [task_id]))

    def forget(self, task_id: str) -> None:
        """Delete the task's result, and wait for it no more."""
        super().forget(task_id)
        self.result_consumer.cancel_for(task_id)

    def exception_safe_to_retry(self, exc: Exception) -> bool:
        """For `result_backend_always_retry`."""
        return isinstance(exc, LOST_CONNECTION)

    def cleanup(self) -> None:
        """Delete what is past its time to live, and send callbacks that were left behind."""
        while self.ensured(partial(self.rows.retain, limit=RETAIN_BATCH)) >= RETAIN_BATCH:
            pass
        recover_chords(self)

    # Chords: see `chords`.

    def apply_chord(self, header_result_args: Any, body: Any, **kwargs: Any) -> None:
        """Begin to count. The header's structure is kept where groups are inside it: its parts are flat."""
        self.ensure_chords_allowed()
        group_id, results = header_result_args[0], header_result_args[1]
        header = None
        if not isinstance(results, _regen) and any(isinstance(one, GroupResult) for one in results):
            header = self.packed({"result": self.app.GroupResult(*header_result_args).as_tuple()})
        self.ensured(partial(self.chords.open, str(group_id), header=header, ttl_seconds=self._chord_ttl(unended=True)))

    def set_chord_size(self, group_id: str, chord_size: int) -> None:
        """All members are known."""
        ttl = self._chord_ttl(unended=True)
        self.ensured(partial(self.chords.resize, str(group_id), chord_size, ttl_seconds=ttl))

    def add_to_chord(self, chord_id: str, result: Any) -> None:
        """One more member."""
        self.ensured(partial(self.chords.extend, str(chord_id), ttl_seconds=self._chord_ttl(unended=True)))

    def on_chord_part_return(self, request: Any, state: str, result: Any, **kwargs: Any) -> None:
        """A member has ended; after the last one, send the callback, or fail the chord."""
        if not request.group or not request.id:
            return
        task_id = str(request.id)
        part = Part(task_id=task_id, status=state, result=self._packed_part(result, state, task_id))
        claim = self.ensured(
            partial(
                self.chords.count,
                str(request.group),
                part,
                position=request.group_index,
                callback=self.packed(dict(request.chord)).body,
                token=uuid.uuid4(),
                ttl_seconds=self._chord_ttl(unended=True),
            )
        )
        if claim is not None:
            close_chord(self, claim, request.chord)
        if self._recovery.has_come():
            recover_chords(self)

    def ensured(self, action: Callable[..., T], *args: Any, lost: tuple[type[Exception], ...] = LOST_CONNECTION) -> T:
        """What `action` answers, tried again while the server is away. Raises: what it raised last."""
        policy: dict[str, Any] = self.retry_policy
        return retry_over_time(action, lost, args, {}, self._on_lost, **policy)  # type: ignore[arg-type]

    def ended_chord_ttl(self) -> float | None:
        """Seconds for which the mark of a chord that is done is kept."""
        return self._chord_ttl(unended=False)

    def packed(self, data: Any) -> Encoded:
        """`data` as the result serializer writes it."""
        body = ensure_bytes(self.encode(data))
        return Encoded(content_type=self.content_type, content_encoding=self.content_encoding, body=body)

    def unpacked(self, encoded: Encoded) -> Any:
        """What was packed, also by an app whose result serializer was another one. Raises: ContentDisallowed."""
        if encoded.content_type == self.content_type:
            return self.decode(encoded.body)
        return loads(
            _decompressed(encoded.body),
            content_type=encoded.content_type,
            content_encoding=encoded.content_encoding,
            accept=self.accept,
        )

    def _on_lost(self, error: Exception, intervals: Iterator[float], retries: int) -> float:
        pause = next(intervals)
        logger.error(
            "Connection to the results' database lost (%s): retry %s/%s %s.",
            str(error).strip(),
            retries,
            self.retry_policy.get("max_retries") or "Inf",
            humanize_seconds(round(pause), "in ", now="now"),
        )
        return pause

    def _store_result(
        self, task_id: Any, result: Any, state: str, traceback: Any = None, request: Any = None, **kwargs: Any
    ) -> Any:
        meta = self._get_result_meta(result=result, state=state, traceback=traceback, request=request)
        meta["task_id"] = bytes_to_str(task_id)
        packed = self._packed_failure(meta) if state in self.EXCEPTION_STATES else self._bounded(self.packed(meta))
        store = partial(self.rows.store, meta["task_id"], state, packed, ttl_seconds=self._ttl(state))
        self.ensured(store)
        return result

    def _packed_failure(self, meta: dict[str, Any]) -> Encoded:
        """As it is, or without its traceback, or shortened, where it is too large: a failure is told in any case."""
        packed = self.packed(meta)
        if len(packed.body) <= self.address.max_bytes:
            return packed
        kept = ("status", "task_id", "date_done", "children", "group_id", "parent_id")
        small = {**{key: meta[key] for key in kept if key in meta}, "traceback": None}
        without_traceback = self.packed({**small, "result": meta["result"]})
        if len(without_traceback.body) <= self.address.max_bytes:
            return without_traceback
        told = self._told_shortly(meta["result"], len(packed.body), str(meta["task_id"]))
        return self.packed({**small, "result": told})

    def _told_shortly(self, error: Any, size: int, task_id: str) -> Any:
        name = error.get("exc_type") if isinstance(error, Mapping) else type(error).__name__
        return self.prepare_exception(
            too_large(size, self.address.max_bytes, f"task {task_id} raised {name}; the error")
        )

    def _packed_part(self, result: Any, state: str, task_id: str) -> Encoded:
        encoded = self.encode_result(result, state)
        packed = self.packed(encoded)
        if state in self.EXCEPTION_STATES and len(packed.body) > self.address.max_bytes:
            return self.packed(self._told_shortly(encoded, len(packed.body), task_id))
        return self._bounded(packed)

    def _bounded(self, packed: Encoded) -> Encoded:
        """Raises: ResultTooLarge."""
        if len(packed.body) > self.address.max_bytes:
            raise too_large(len(packed.body), self.address.max_bytes)
        return packed

    def _get_task_meta_for(self, task_id: str) -> dict[str, Any]:
        found = self.ensured(self.rows.get, [task_id]).get(task_id)
        if found is None:
            return {"status": states.PENDING, "result": None}
        meta: dict[str, Any] = self.meta_from_decoded(self.unpacked(found))
        return meta

    def _readable(self, task_id: str, encoded: Encoded) -> dict[str, Any]:
        try:
            meta: dict[str, Any] = self.meta_from_decoded(self.unpacked(encoded))
        except Exception as error:
            logger.exception("celery.result_unreadable task_id=%s", task_id)
            return {"status": states.FAILURE, "result": error, "traceback": None, "children": [], "task_id": task_id}
        return meta

    def _ended(self, task_ids: Collection[str], ready: Collection[str]) -> list[tuple[str, dict[str, Any]]]:
        """Those that have, from the cache or by one statement; what has succeeded is cached."""
        ended = {}
        for task_id in task_ids:
            if task_id in self._cache and self._cache[task_id]["status"] in ready:
                ended[task_id] = self._cache[task_id]
        for meta in self.metas([one for one in task_ids if one not in ended]) if len(ended) < len(task_ids) else []:
            if meta["status"] in ready:
                ended[meta["task_id"]] = self._cache[meta["task_id"]] = meta
        return list(ended.items())

    def _forget(self, task_id: str) -> None:
        self.ensured(self.rows.forget, task_id)

    def _save_group(self, group_id: str, result: GroupResult) -> GroupResult:
        packed = self._bounded(self.packed({"result": result.as_tuple()}))
        self.ensured(partial(self.rows.save_group, str(group_id), packed, ttl_seconds=self.expires or None))
        return result

    def _restore_group(self, group_id: str) -> dict[str, Any] | None:
        found = self.ensured(self.rows.get_group, str(group_id))
        if found is None:
            return None
        meta: dict[str, Any] = self.unpacked(found)
        meta["result"] = result_from_tuple(meta["result"], self.app)
        return meta

    def _delete_group(self, group_id: str) -> None:
        self.ensured(self.rows.delete_group, str(group_id))

    def _ttl(self, state: str) -> float | None:
        """Seconds from now; None: for ever."""
        ttl = self.failure_expires if state == states.FAILURE else self.expires
        if not ttl:
            return None
        return float(ttl) if state in self.READY_STATES else float(ttl) + UNENDED_SECONDS

    def _chord_ttl(self, *, unended: bool) -> float | None:
        own = self.app.conf.get("result_chord_expires")
        ttl = self.expires if own is None else self.prepare_expires(own)
        if not ttl:
            return None
        return float(ttl) + UNENDED_SECONDS if unended else float(ttl)

    def __reduce__(self, args: Any = (), kwargs: Any = None) -> Any:
        given = {**(kwargs or {}), "expires": self.expires, "url": self.url}
        return super().__reduce__(args, given)  # type: ignore[call-arg]


def _decompressed(body: bytes) -> bytes:
    """Celery compresses results from 5.7 on."""
    try:
        from celery.backends.base import decompress_payload  # type: ignore[attr-defined]
    except ImportError:
        return body
    plain: bytes = decompress_payload(body)
    return plain
