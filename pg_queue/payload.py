"""What a message and a result may hold: JSON that PostgreSQL can keep, of a bounded size."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from pg_queue.domain import Json
from pg_queue.errors import PayloadNotJSON, PayloadTooLarge

_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")
"""The escape of NUL in JSON text, and not a backslash that is followed by `u0000`."""

MAX_DEPTH = 200
"""Lists and objects inside each other. Python's parser gives up later, and where depends on the caller's own stack:
what one process could write, another could not read."""

_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
_BRACKET = re.compile(r"[\[{\]}]")

_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode

_PLAIN = (str, int, float, type(None))
_SIMPLE = {str, int, float, bool, type(None)}
"""The same, told apart at a glance: nearly every value is one of these."""


def encode(value: Json, *, field: str) -> str:
    """`value` as JSON text.

    Raises: PayloadNotJSON for what JSON or `jsonb` cannot hold: other types, NaN and infinity, a cycle, NUL or half a
    surrogate pair in a string, more than `MAX_DEPTH` levels. (PostgreSQL, "JSON Types": `jsonb` rejects `\\u0000` and
    unpaired surrogates.)
    """
    try:
        text = _encode(value)
        if not text.isascii():
            text.encode()  # refuses half a surrogate pair
    except (TypeError, ValueError, RecursionError) as error:
        raise PayloadNotJSON(field=field, expected=f"what JSON can hold ({error})", got=value) from None
    except Exception as error:  # a value's own methods may be what is broken
        raise PayloadNotJSON(field=field, expected=f"what JSON can hold ({type(error).__name__})", got=value) from error
    if "\\u0000" in text and _NUL.search(text):
        raise PayloadNotJSON(field=field, expected="strings without NUL (U+0000), which PostgreSQL refuses", got=value)
    if text.count("[") + text.count("{") > MAX_DEPTH and _depth(text) > MAX_DEPTH:
        raise PayloadNotJSON(field=field, expected=f"at most {MAX_DEPTH} levels of lists and objects", got=value)
    return text


def check_payload(args: Sequence[Json], kwargs: Mapping[str, Json], *, max_bytes: int) -> None:
    """Refuse arguments that would come back changed or not at all.

    Raises: PayloadNotJSON (field `args` or `kwargs`), also for a key that is not a string; PayloadTooLarge above
    `max_bytes` together.
    """
    if not isinstance(args, (list, tuple)):
        raise PayloadNotJSON(field="args", expected="a list or tuple of arguments", got=args)
    if not (type(kwargs) is dict or isinstance(kwargs, Mapping)):
        raise PayloadNotJSON(field="kwargs", expected="a mapping of names to arguments", got=kwargs)
    args_size, kwargs_size = _checked_size(args, "args"), _checked_size(kwargs, "kwargs")
    if args_size + kwargs_size > max_bytes:
        raise PayloadTooLarge(
            field="args" if args_size > kwargs_size else "kwargs",
            expected=f"args and kwargs of at most {max_bytes} bytes as JSON (MAX_PAYLOAD_BYTES)",
            got=args_size + kwargs_size,
        )


def check_headers(headers: Mapping[str, Json], *, max_bytes: int) -> None:
    """Refuse headers that would come back changed. Raises: PayloadNotJSON, PayloadTooLarge (field `headers`)."""
    if not (type(headers) is dict or isinstance(headers, Mapping)):
        raise PayloadNotJSON(field="headers", expected="a mapping of names to values", got=headers)
    if headers and (size := _checked_size(dict(headers), "headers")) > max_bytes:
        expected = f"headers of at most {max_bytes} bytes as JSON (MAX_PAYLOAD_BYTES)"
        raise PayloadTooLarge(field="headers", expected=expected, got=size)


def check_value(value: Json, *, field: str, max_bytes: int) -> None:
    """Refuse a value that would come back changed. Raises: PayloadNotJSON, PayloadTooLarge, naming `field`."""
    has_parts = isinstance(value, (dict, list, tuple))
    size = _checked_size(value, field) if has_parts else _size(encode(value, field=field))
    if size > max_bytes:
        expected = f"{field} of at most {max_bytes} bytes as JSON (MAX_PAYLOAD_BYTES)"
        raise PayloadTooLarge(field=field, expected=expected, got=size)


def plain_result(value: Json, *, max_bytes: int) -> Json:
    """A task's result as JSON gives it back: tuples are lists, keys are strings, subclasses their plain types.

    Raises: PayloadNotJSON, PayloadTooLarge (field `result`).
    """
    if value is None or value is True or value is False:
        return value
    return json.loads(encode_result(value, max_bytes=max_bytes))


def encode_result(value: Json, *, max_bytes: int) -> str:
    """A task's result as JSON text. Raises: PayloadNotJSON, PayloadTooLarge (field `result`)."""
    text = encode(value, field="result")
    size = _size(text)
    if size > max_bytes:
        expected = f"a result of at most {max_bytes} bytes as JSON (MAX_PAYLOAD_BYTES, or MAX_BYTES of RESULTS)"
        raise PayloadTooLarge(field="result", expected=expected, got=size)
    return text


def _depth(text: str) -> int:
    depth = deepest = 0
    for bracket in _BRACKET.findall(_STRING.sub("", text)):
        depth += 1 if bracket in "[{" else -1
        deepest = max(deepest, depth)
    return deepest


def _size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())


def _checked_size(value: Any, field: str) -> int:
    if not value:
        return 2
    if not isinstance(value, (dict, list, tuple)):
        value = dict(value)  # a mapping of another kind
    text = encode(value, field=field)
    _check_keys(value, field)
    return _size(text)


def _check_keys(value: Any, field: str) -> None:
    """`json.dumps` turns the key 1 into "1" in silence; the task would get other arguments than were given."""
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str):
                raise PayloadNotJSON(field=field, expected="keys that are strings", got=key)
        value = value.values()
    for part in value:
        if type(part) not in _SIMPLE and not isinstance(part, _PLAIN):
            _check_keys(part, field)
