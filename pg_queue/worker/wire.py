"""Frames between a worker and its children: a length, then pickled values. Both ends are one program, one user."""

from __future__ import annotations

import pickle
import struct
from collections.abc import Iterator
from dataclasses import fields
from operator import attrgetter
from typing import Any
from uuid import UUID

from pg_queue.domain import Claim, Death, Message, MessageState, Retry, Success

_LENGTH = struct.Struct("!I")
_FIELDS = tuple(field.name for field in fields(Message) if field.name not in {"id", "state"})
TRACELESS = Success(keep=False)
_values_of = attrgetter(*_FIELDS)


def frame(value: Any) -> bytes:
    """`value` as one frame."""
    body = pickle.dumps(value, protocol=pickle.HIGHEST_PROTOCOL)
    return _LENGTH.pack(len(body)) + body


def packed(claim: Claim) -> tuple[Any, ...]:
    """A claim's token and its message as the fields' values: pickled in a third of a dataclass's time; token and id as
    numbers, for the same."""
    return claim.token.int, claim.message.id.int, *_values_of(claim.message)


def unpacked(values: tuple[Any, ...]) -> tuple[int, Message]:
    """The token's number and the message of `packed`."""
    token, number, *others = values
    fields_of = dict(zip(_FIELDS, others, strict=True))
    return token, Message(id=UUID(int=number), state=MessageState.RUNNING, **fields_of)


def packed_outcome(outcome: Success | Retry | Death) -> Any:
    """An outcome as `unpacked_outcome` wants it; the commonest ones in a sixth of a dataclass's time."""
    if type(outcome) is Success and outcome.ttl is None and not outcome.followers:
        return (outcome.value,) if outcome.keep else ()
    return outcome


def unpacked_outcome(packed: Any) -> Success | Retry | Death:
    """The outcome of `packed_outcome`. Raises: TypeError for anything else."""
    if packed == ():
        return TRACELESS
    if type(packed) is tuple:
        (value,) = packed
        return Success(value=value)
    if not isinstance(packed, Success | Retry | Death):
        raise TypeError(f"expected an outcome, got: {type(packed).__name__}")
    return packed


class Frames:
    """Puts frames together from whatever pieces arrive."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[Any]:
        """Add what has arrived and yield the values that are complete. A frame cut off by a death never is."""
        self._buffer += data
        while len(self._buffer) >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._buffer)
            end = _LENGTH.size + length
            if len(self._buffer) < end:
                return
            body = bytes(self._buffer[_LENGTH.size : end])
            del self._buffer[:end]
            yield pickle.loads(body)
