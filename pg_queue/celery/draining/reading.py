"""From a delivery to the row that it becomes, or to the reason why it becomes none."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kombu.serialization import registry  # type: ignore[attr-defined]  # its stubs lack it

from pg_queue.celery.draining.source import Delivery
from pg_queue.celery.envelope import write_payload
from pg_queue.celery.transport.broker import CLAIM_HEADER, priority_in
from pg_queue.domain import NewMessage
from pg_queue.errors import InvalidMessage
from pg_queue.storage.rows import encode_message

_PLAIN_TYPES = {"application/json", "application/x-json", "text/plain", "application/data"}


class Unreadable(Exception):
    """Why a delivery is none that can be moved, as one sentence that shows nothing of its contents."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parcel:
    """A delivery, ready to be stored."""

    delivery: Delivery
    message: NewMessage
    identity: str
    """By which it is known when it comes again."""


def read(delivery: Delivery, *, max_bytes: int, max_deliveries: int) -> Parcel:
    """The row that a delivery becomes, as the transport `downbeat://` would publish it. Raises: Unreadable."""
    payload = _checked(delivery.payload)
    headers = {name: value for name, value in payload["headers"].items() if name != CLAIM_HEADER}
    payload = {**payload, "headers": headers, "body": _body(payload)}
    try:
        message = write_payload(
            payload, queue=delivery.queue, priority=priority_in(payload), max_attempts=max_deliveries
        )
        row = encode_message(message, "", max_deliveries)
    except (InvalidMessage, ValueError, TypeError, RecursionError) as error:
        raise Unreadable(str(error)[:200]) from error
    size = len(row["args"]) + len(row["kwargs"]) + len(row["headers"])
    if size > max_bytes:
        raise Unreadable(f"body: expected at most {max_bytes} bytes (max_message_bytes), got: {size}")
    return Parcel(delivery=delivery, message=message, identity=_identity(delivery, payload))


def _checked(payload: Mapping[str, Any] | None) -> Mapping[str, Any]:
    if payload is None:
        raise Unreadable("message: expected one of kombu's, got: another")
    headers = payload["headers"]
    if not isinstance(headers, Mapping) or not all(isinstance(headers.get(name), str) for name in ("task", "id")):
        raise Unreadable("headers: expected task and id, of a task message of protocol 2, got: others")
    if payload["content-type"] not in {*registry.type_to_name, *_PLAIN_TYPES}:
        raise Unreadable(f"content-type: expected one that kombu knows, got: {payload['content-type']!r}")
    return payload


def _body(payload: Mapping[str, Any]) -> str | bytes:
    """Decoded where the transport has encoded it."""
    body: str | bytes = payload["body"]
    encoding = payload["properties"].get("body_encoding")
    if encoding is None:
        return body
    try:
        if encoding == "base64":
            return base64.b64decode(body, validate=True)
    except (binascii.Error, ValueError) as error:
        raise Unreadable("body: expected base64, got: something else") from error
    raise Unreadable(f"body_encoding: expected base64, got: {encoding!r}")


def _identity(delivery: Delivery, payload: Mapping[str, Any]) -> str:
    """See the package. Not by the other headers: a broker marks there what it hands over again."""
    headers, body = payload["headers"], payload["body"]
    own = delivery.tag if delivery.has_own_tag else None
    said = [delivery.queue, own, headers["id"], headers.get("retries"), headers.get("eta")]
    digest = hashlib.sha256(json.dumps(said, default=str).encode())
    digest.update(body.encode("utf-8", "surrogatepass") if isinstance(body, str) else body)
    return f"drained:{digest.hexdigest()}"
