"""Between a Celery message and the row that it is: the one place that knows the mapping, in both directions.

A JSON task message (protocol 2) is an ordinary row: the row's columns are its name, arguments, queue, priority, `eta`
and, where it is a free UUID, its id. What has no column is in `headers["celery"]`:

- `headers`: the other headers that differ from Celery's defaults, custom ones included;
- `embed`: callbacks, errbacks, chain and chord, those that there are;
- `properties`: `correlation_id` where it is not the id, `reply_to`, and whatever else was set.

`headers["expires_at"]` is Celery's `expires`, an aware ISO instant. Any other row, such as one that a scheduler's tick
has stored, reads as the message that Celery would have made of it, its headers as custom headers. What is no such
message (pickle, compressed bodies, kombu's own users) is a row of the reserved task `celery.raw`, its payload in
`headers["celery"]["raw"]`.

No Django, no I/O, and no Celery either: whoever runs, sends or shows such rows can read them.
"""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, NoReturn

from pg_queue.domain import DEFAULT_PRIORITY, MAX_PRIORITY, MIN_PRIORITY, Message, NewMessage
from pg_queue.errors import InvalidMessage, PayloadNotJSON
from pg_queue.payload import encode

RAW_TASK = "celery.raw"
"""The task of rows that hold a payload which only kombu can read."""
CELERY, EXPIRES_AT = "celery", "expires_at"
"""The keys of a row's headers."""
MOST_ATTEMPTS = 32767
"""What the column holds: a broker hands a message over as often as it takes."""

_LATEST = datetime(9999, 12, 30, tzinfo=UTC)
_LONGEST_QUEUE, _LONGEST_TASK = 128, 255
_JSON_TYPES = {"application/json", "application/x-json"}
_EMBEDDED = ("callbacks", "errbacks", "chain", "chord")
_DEFAULTS: Mapping[str, Any] = {
    "lang": "py",
    "shadow": None,
    "eta": None,
    "expires": None,
    "group": None,
    "group_index": None,
    "retries": 0,
    "timelimit": [None, None],
    "parent_id": None,
    "argsrepr": None,
    "kwargsrepr": None,
    "origin": None,
    "ignore_result": False,
    "replaced_task_nesting": 0,
    "stamped_headers": None,
    "stamps": {},
}
"""Headers of protocol 2 with the values that need not be kept."""
_RESERVED = {CELERY, EXPIRES_AT, "id", "root_id", "task", *_DEFAULTS}
"""What a row's own headers cannot say: Celery would take it for its own word."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """A Celery task message, its body decoded."""

    headers: dict[str, Any]
    """All of protocol 2, and custom ones. `eta` is None: the database waits for it. `expires` is ISO text."""
    args: list[Any]
    kwargs: dict[str, Any]
    embed: dict[str, Any] = field(default_factory=lambda: dict.fromkeys(_EMBEDDED))
    """`callbacks`, `errbacks`, `chain`, `chord`; None: none."""
    properties: dict[str, Any] = field(default_factory=dict)
    """`correlation_id`, `reply_to` and others; a priority is the row's."""

    @property
    def body(self) -> list[Any]:
        """As protocol 2 sends it."""
        return [self.args, self.kwargs, self.embed]


def is_raw(message: Message) -> bool:
    """Whether only kombu can read it: there is no envelope of it."""
    return message.task == RAW_TASK


def read_envelope(message: Message) -> Envelope:
    """The Celery message that a row is, whoever has stored it. Raises: ValueError for a raw one."""
    if is_raw(message):
        raise ValueError(f"message {message.id}: expected a task message, got: a raw payload")
    kept = _mapping(message.headers.get(CELERY))
    properties = _mapping(kept.get("properties"))
    own = {name: value for name, value in message.headers.items() if name not in _RESERVED}
    headers = {**_DEFAULTS, **own, **_mapping(kept.get("headers"))}
    task_id = str(headers.setdefault("id", str(message.id)))
    headers.setdefault("root_id", task_id)
    headers["task"] = message.task
    headers["expires"] = message.headers.get(EXPIRES_AT) or headers["expires"]
    return Envelope(
        headers=headers,
        args=message.args,
        kwargs=message.kwargs,
        embed={**dict.fromkeys(_EMBEDDED), **_mapping(kept.get("embed"))},
        properties={"correlation_id": task_id, "reply_to": "", **properties},
    )


def write_envelope(
    envelope: Envelope,
    *,
    queue: str,
    priority: int | None = None,
    organization_id: str = "",
    max_attempts: int = MOST_ATTEMPTS,
) -> NewMessage:
    """The row that a Celery message becomes. `priority` is Celery's (0 to 9, the larger first), None: the default.

    Its `eta` becomes `run_after`, its `expires` `headers["expires_at"]`. The row has the message's id where that is a
    UUID; a store may find it in use, and give another one (see `with_fresh_id`).
    Raises: InvalidMessage (also as PayloadNotJSON), naming the field.
    """
    headers = dict(envelope.headers)
    task_id = headers.pop("id", None)
    row_id = _uuid(task_id)
    kept = {
        "headers": _without_defaults(headers, task_id, keep_id=row_id is None),
        "embed": {name: value for name, value in envelope.embed.items() if value is not None},
        "properties": _own_properties(envelope.properties, task_id),
    }
    row_headers: dict[str, Any] = {CELERY: {part: value for part, value in kept.items() if value}}
    if (expires := _instant("expires", headers.get("expires"))) is not None:
        row_headers[EXPIRES_AT] = expires.isoformat()
    return NewMessage(
        task=_checked_name("task", headers.get("task"), _LONGEST_TASK),
        args=envelope.args,
        kwargs=envelope.kwargs,
        queue=_checked_name("queue", queue, _LONGEST_QUEUE),
        priority=row_priority(priority),
        run_after=_instant("eta", headers.get("eta")),
        max_attempts=max_attempts,
        headers=row_headers,
        organization_id=organization_id,
        id=row_id,
    )


def with_fresh_id(message: NewMessage) -> NewMessage:
    """The same Celery message under an id that the store makes: its own is that of another row, which still lives."""
    if message.id is None or message.task == RAW_TASK:
        return replace(message, id=None)
    kept = dict(message.headers[CELERY])
    kept["headers"] = {"id": str(message.id), **kept.get("headers", {})}
    return replace(message, id=None, headers={**message.headers, CELERY: kept})


def row_priority(priority: int | None) -> int:
    """Celery's priority, 0 (last) to 9 (first) as RabbitMQ counts, as a row's: 1 to 10. None: the row's default, 5."""
    if priority is None:
        return DEFAULT_PRIORITY
    return min(max(priority + 1, MIN_PRIORITY), MAX_PRIORITY)


def celery_priority(priority: int) -> int:
    """The other way: a row's priority as Celery counts it."""
    return priority - 1


def read_payload(message: Message) -> dict[str, Any]:
    """The message as kombu's virtual transports hand one over, but for its delivery tag."""
    if is_raw(message):
        return _raw_payload(message)
    envelope = read_envelope(message)
    return {
        "body": json.dumps(envelope.body, separators=(",", ":")),
        "content-type": "application/json",
        "content-encoding": "utf-8",
        "headers": envelope.headers,
        "properties": _delivered(envelope.properties, message),
    }


def write_payload(
    payload: Mapping[str, Any], *, queue: str, priority: int | None, max_attempts: int = MOST_ATTEMPTS
) -> NewMessage:
    """The row for what kombu publishes: a task's where it is a JSON task message, else a raw one.

    `payload` has the keys `body` (text or bytes), `content-type`, `content-encoding`, `headers` and `properties`.
    Raises: InvalidMessage, naming the field.
    """
    headers, properties = dict(payload["headers"] or {}), dict(payload["properties"])
    try:
        args, kwargs, embed = _decoded_body(payload)
        encode([headers, properties], field="headers")
    except (ValueError, TypeError, RecursionError, PayloadNotJSON):
        return _raw_message(payload, headers, properties, queue=queue, priority=priority, max_attempts=max_attempts)
    envelope = Envelope(headers=headers, args=args, kwargs=kwargs, embed=embed, properties=properties)
    return write_envelope(envelope, queue=queue, priority=priority, max_attempts=max_attempts)


# Task messages


def _decoded_body(payload: Mapping[str, Any]) -> tuple[list[Any], dict[str, Any], dict[str, Any]]:
    """Raises: ValueError where it is no JSON task message that PostgreSQL can keep."""
    headers = payload["headers"] or {}
    if payload["content-type"] not in _JSON_TYPES or headers.get("compression"):
        raise ValueError("no JSON")
    if not isinstance(headers.get("task"), str) or headers["task"] == RAW_TASK:
        raise ValueError("no task message")
    parsed = json.loads(_text(payload["body"]), parse_constant=_refuse_constant)
    if not isinstance(parsed, list) or len(parsed) != 3:
        raise ValueError("no body of protocol 2")
    args, kwargs, embed = parsed
    if not isinstance(args, list) or not isinstance(kwargs, dict) or not isinstance(embed, dict):
        raise ValueError("no body of protocol 2")
    encode(parsed, field="body")
    return args, kwargs, embed


def _without_defaults(headers: Mapping[str, Any], task_id: object, *, keep_id: bool) -> dict[str, Any]:
    """Those that have no column, and that reading would not put back by itself."""
    kept = {
        name: value
        for name, value in headers.items()
        if name not in _IN_COLUMNS and value != _DEFAULTS.get(name, _ABSENT)
    }
    if "root_id" in kept and kept["root_id"] == task_id:
        del kept["root_id"]
    return {"id": task_id, **kept} if keep_id and task_id is not None else kept


_ABSENT = object()
_IN_COLUMNS = {"task", "eta", "expires"}


def _own_properties(properties: Mapping[str, Any], task_id: object) -> dict[str, Any]:
    """Those that reading would not put back by itself. The exchange counts where it is not the anonymous one."""
    kept = {
        name: value
        for name, value in properties.items()
        if name not in _TRANSPORTS_OWN and value is not None and value != "" and value != _USUAL.get(name, _ABSENT)
    }
    if task_id is not None and kept.get("correlation_id") == task_id:
        del kept["correlation_id"]
    info = _mapping(properties.get("delivery_info"))
    if info.get("exchange"):
        kept["delivery_info"] = {name: info.get(name) for name in ("exchange", "routing_key")}
    return kept


_TRANSPORTS_OWN = {"priority", "delivery_info", "delivery_tag", "body_encoding"}
_USUAL = {"delivery_mode": 2}


def _delivered(properties: Mapping[str, Any], message: Message) -> dict[str, Any]:
    priority = celery_priority(message.priority)
    info = {
        "exchange": "",
        "routing_key": message.queue,
        **_mapping(properties.get("delivery_info")),
        "priority": priority,
        "redelivered": message.attempts > 1,
    }
    return {**_USUAL, **properties, "priority": priority, "body_encoding": None, "delivery_info": info}


# Raw payloads


def _raw_message(
    payload: Mapping[str, Any],
    headers: Mapping[str, Any],
    properties: Mapping[str, Any],
    *,
    queue: str,
    priority: int | None,
    max_attempts: int,
) -> NewMessage:
    body, encoding = _kept_body(payload["body"])
    raw = {
        "body": body,
        "body_encoding": encoding,
        "content-type": payload["content-type"],
        "content-encoding": payload["content-encoding"],
        "headers": _plain("headers", headers),
        "properties": _own_properties(_plain("properties", properties), None),
    }
    row_headers: dict[str, Any] = {CELERY: {"raw": raw}}
    if (expires := _lenient_instant(headers.get("expires"))) is not None:
        row_headers[EXPIRES_AT] = expires.isoformat()
    return NewMessage(
        task=RAW_TASK,
        queue=_checked_name("queue", queue, _LONGEST_QUEUE),
        priority=row_priority(priority),
        run_after=_lenient_instant(headers.get("eta")),
        max_attempts=max_attempts,
        headers=row_headers,
        id=_uuid(headers.get("id")),
    )


def _raw_payload(message: Message) -> dict[str, Any]:
    raw = _mapping(_mapping(message.headers.get(CELERY)).get("raw"))
    headers, properties = dict(_mapping(raw.get("headers"))), _mapping(raw.get("properties"))
    if headers.get("eta"):
        headers["eta"] = None  # it was waited for
    delivered = _delivered(properties, message) | {"body_encoding": raw.get("body_encoding")}
    return {
        "body": raw.get("body", ""),
        "content-type": raw.get("content-type"),
        "content-encoding": raw.get("content-encoding"),
        "headers": headers,
        "properties": delivered,
    }


def _kept_body(body: str | bytes) -> tuple[str, str | None]:
    """As text where it is one that PostgreSQL takes, else as base64; and which of the two."""
    try:
        text = _text(body)
    except UnicodeDecodeError:
        text = "\x00"
    if "\x00" not in text:
        try:
            text.encode()
        except UnicodeEncodeError:
            pass
        else:
            return text, None
    data = body if isinstance(body, bytes) else body.encode("utf-8", "surrogatepass")
    return base64.b64encode(data).decode(), "base64"


def _plain(name: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """As JSON gives them back, with texts for what JSON does not know. Raises: PayloadNotJSON."""
    plain: dict[str, Any] = json.loads(json.dumps(dict(values), default=str))
    encode(plain, field=name)
    return plain


# Values


def _text(body: str | bytes) -> str:
    return body if isinstance(body, str) else bytes(body).decode()


def _mapping(value: object) -> Mapping[str, Any]:
    """A row's headers may have been written by anyone: what is no object is none."""
    return value if isinstance(value, Mapping) else {}


def _uuid(value: object) -> uuid.UUID | None:
    """A UUID where `value` is one in its usual form, so that its text is `value` again."""
    if not isinstance(value, str):
        return None
    try:
        found = uuid.UUID(value)
    except ValueError:
        return None
    return found if str(found) == value else None


def _instant(name: str, value: object) -> datetime | None:
    """An instant that was given as ISO text; one without timezone is in UTC. Raises: InvalidMessage."""
    if value is None or value == "":
        return None
    try:
        found = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
        aware = found if found.tzinfo is not None else found.replace(tzinfo=UTC)
        if aware <= _LATEST:
            return aware.astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    expected = f"an ISO 8601 instant, not later than {_LATEST.isoformat()}"
    raise InvalidMessage(field=name, expected=expected, got=value)


def _lenient_instant(value: object) -> datetime | None:
    """Raw headers may say anything, or seconds as pidbox's `expires` does: what is no instant is none."""
    try:
        return _instant("", value) if isinstance(value, str | datetime) else None
    except InvalidMessage:
        return None


def _checked_name(name: str, value: object, most: int) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= most or "\x00" in value:
        raise InvalidMessage(field=name, expected=f"a text of 1 to {most} characters", got=value)
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
