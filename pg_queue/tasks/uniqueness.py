"""Which messages of a task are the same work: the idempotency key that its arguments stand for."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from pg_queue.errors import InvalidArguments

Spec = bool | str | Sequence[str] | Callable[..., Any]
"""True: all arguments; names: these arguments; a function of the arguments: what it returns."""

_SHOWN = 100
"""Characters of the task's name in a key: for people; what tells keys apart is the digest."""


@dataclass(frozen=True, slots=True)
class Unique:
    """How one task's messages are told apart."""

    task: str
    signature: inspect.Signature
    spec: Spec
    hold: timedelta
    """How long after its end a message still stands for its like."""

    def key(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
        """The key of a message with these arguments, however they were passed. Raises: InvalidArguments."""
        text = json.dumps([self.task, self._value(args, kwargs)], sort_keys=True, default=repr)
        digest = hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()[:40]
        return f"unique:{self.task[:_SHOWN]}:{digest}"

    def _value(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        if callable(self.spec):
            return self.spec(*args, **kwargs)
        try:
            bound = self.signature.bind(*args, **kwargs)
        except TypeError as error:
            expected = f"the arguments of {self.task}{self.signature} ({error})"
            got = f"{len(args)} positional arguments and {sorted(kwargs)}"
            raise InvalidArguments(field="args", expected=expected, got=got) from None
        bound.apply_defaults()
        if self.spec is True:
            return bound.arguments
        assert not isinstance(self.spec, bool)  # False makes no `Unique`
        return [bound.arguments[name] for name in self.spec]


def unique_of(task: str, signature: inspect.Signature, spec: Any, hold: timedelta) -> Unique:
    """Raises: ValueError for a name that is no parameter, and for what is no `Spec`."""
    if spec is True or callable(spec):
        return Unique(task, signature, spec, hold)
    names = (spec,) if isinstance(spec, str) else spec
    if not isinstance(names, (tuple, list)) or not names or not all(name in signature.parameters for name in names):
        known = ", ".join(signature.parameters) or "none are there"
        raise ValueError(
            f"task {task!r}: unique: expected True, names of its parameters ({known}) or a function of its arguments, "
            f"got: {spec!r}"
        )
    return Unique(task, signature, tuple(names), hold)
