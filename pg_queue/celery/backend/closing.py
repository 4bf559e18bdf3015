"""The end of a chord: its parts put together, and the callback sent, or failed where a member has."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from celery import current_app, states
from celery.canvas import maybe_signature
from celery.exceptions import ChordError
from celery.result import GroupResult, result_from_tuple
from celery.utils.log import get_logger
from django.db import DatabaseError, InterfaceError, OperationalError, transaction

from pg_queue.celery.backend.chords import Claim, Part
from pg_queue.celery.backend.sessions import LOST_CONNECTION
from pg_queue.errors import Configuration
from pg_queue.tasks.following import sending

if TYPE_CHECKING:
    from pg_queue.celery.backend.backend import DownbeatBackend

logger = get_logger(__name__)


def close_chord(backend: DownbeatBackend, claim: Claim, callback: Any) -> None:
    """Send the callback of a chord whose members have all ended, and mark it as done.

    A member that has failed fails the chord: the callback's result is a `ChordError` that names it, its error callbacks
    are called. Raises: what the database raised; the claim is then taken over by another worker.
    """
    signature = maybe_signature(callback, app=backend.app)
    parts = backend.ensured(backend.chords.parts, claim.group_id)
    alias = joined_alias(backend)
    lost = LOST_CONNECTION if alias is None else (InterfaceError, OperationalError)
    with sending():  # what our own worker holds for the end of a message is none of the chord's
        backend.ensured(lambda: _close(backend, claim, signature, parts, alias), lost=lost)


def recover_chords(backend: DownbeatBackend) -> int:
    """Send the callbacks of chords whose claim has run out; how many were taken over. One that fails stops no other."""
    claims = backend.ensured(backend.chords.take_over)
    for claim, callback in claims:
        logger.warning("celery.chord_recovered group_id=%s", claim.group_id)
        try:
            close_chord(backend, claim, backend.decode(callback))
        except Exception:
            logger.exception("celery.chord_unrecovered group_id=%s", claim.group_id)
    return len(claims)


def recover_current_apps_chords() -> int:
    """The same for the project's Celery app, in a process that is no worker; none where its results are elsewhere."""
    if not str(current_app.conf.result_backend or "").startswith("downbeat"):
        return 0
    backend: Any = current_app.backend
    return recover_chords(backend)


def joined_alias(backend: DownbeatBackend) -> str | None:
    """The Django database whose transactions store what is published, where results are there too; None: another one.

    The broker's URL names the same store's database, or the same one past Django.
    """
    broker, own = str(backend.app.conf.broker_write_url or ""), backend.url
    if not broker.startswith("downbeat"):
        return None
    from pg_queue.celery.transport.address import resolve  # sets Django up, which other brokers do not need

    broker = broker.removeprefix("downbeat+")
    if backend.address.alias is None and urlsplit(broker)._replace(query="") != urlsplit(own)._replace(query=""):
        return None
    try:
        alias = resolve(broker, backend.app.conf.broker_transport_options or {}).alias
    except Configuration:  # the transport will say so
        return None
    return alias if backend.address.alias in {None, alias} else None


def _close(backend: DownbeatBackend, claim: Claim, signature: Any, parts: Sequence[Part], alias: str | None) -> None:
    with backend.chords.closing(claim, alias=alias, ttl_seconds=backend.ended_chord_ttl()) as is_held:
        if not is_held:
            logger.warning("celery.chord_taken_over group_id=%s", claim.group_id)
            return
        try:
            values = _values(backend, claim, parts)
        except ChordError as error:
            logger.error("Chord %r raised: %r", claim.group_id, error)
            _fail(backend, signature, error, alias)
        else:
            _send(backend, claim, signature, values, alias)


def _send(backend: DownbeatBackend, claim: Claim, signature: Any, values: list[Any], alias: str | None) -> None:
    publish = getattr(backend.app.amqp, "_retry_publish", None)  # from Celery 5.7 on
    try:
        with _undone_by_errors(alias):
            if publish is None:
                signature.delay(values)
            else:
                publish(signature.delay, values)
    except Exception as error:
        logger.exception("Chord %r raised: %r", claim.group_id, error)
        _fail(backend, signature, _because(f"Callback error: {error!r}", error), alias)


def _fail(backend: DownbeatBackend, signature: Any, error: ChordError, alias: str | None) -> None:
    """The callback's result is this error, whatever becomes of the error callbacks."""
    try:
        with _undone_by_errors(alias):
            backend.chord_error_from_stack(signature, error)
    except DatabaseError:
        logger.exception("celery.chord_errbacks_unsent callback_id=%s", signature.id)


def _undone_by_errors(alias: str | None) -> AbstractContextManager[object]:
    """An error of the database inside undoes what was sent, and leaves the transaction whole."""
    return transaction.atomic(using=alias) if alias else nullcontext()


def _values(backend: DownbeatBackend, claim: Claim, parts: Sequence[Part]) -> list[Any]:
    """What the members returned, as the header is nested. Raises: ChordError where one of them has failed."""
    returned: dict[str, Any] = {}
    flat = []
    for part in parts:
        value = backend.unpacked(part.result)
        if part.status in states.EXCEPTION_STATES:
            value = backend.exception_to_python(value)
        if part.status in states.PROPAGATE_STATES:
            raise _because(f"Dependency {part.task_id} raised {value!r}", value)
        returned[part.task_id] = value
        flat.append(value)
    if claim.header is None:
        return flat
    header: Any = result_from_tuple(backend.unpacked(claim.header)["result"], backend.app)
    return [_value(backend, node, returned) for node in header.results]


def _value(backend: DownbeatBackend, node: Any, returned: dict[str, Any]) -> Any:
    if isinstance(node, GroupResult):
        return [_value(backend, member, returned) for member in node.results or ()]
    task_id: str = node.id
    if task_id in returned:
        return returned[task_id]
    meta = backend.get_task_meta(task_id)  # its part came under another id
    if meta["status"] in states.PROPAGATE_STATES:
        raise _because(f"Dependency {task_id} raised {meta['result']!r}", meta["result"])
    return meta["result"]


def _because(message: str, cause: object) -> ChordError:
    error = ChordError(message)
    error.__cause__ = cause if isinstance(cause, BaseException) else None
    return error
