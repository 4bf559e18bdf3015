"""Options of the commands, read and refused alike: by the option's name, with what was expected and what was got."""

from __future__ import annotations

import math
from argparse import ArgumentTypeError
from collections.abc import Callable
from datetime import datetime

from scheduler.errors import InvalidInput

_OPTIONS = {
    "schedule_id": "--schedule",
    "organization_id": "--organization",
    "count": "--occurrences",
    "percent": "--percent",
    "reason": "--reason",
    "since": "--since",
    "until": "--until",
}


def refusal(error: Exception) -> str:
    """The refusal under the name of the option whose value it was."""
    if isinstance(error, InvalidInput) and error.field in _OPTIONS:
        return str(InvalidInput(field=_OPTIONS[error.field], expected=error.expected, got=error.got))
    return str(error)


def instant(option: str, text: str) -> datetime:
    """An instant with its offset. Raises `InvalidInput`, field `option`, with the text as it was written."""
    expected = "an ISO 8601 instant with an offset, such as 2026-12-24T18:00:00Z"
    try:
        read = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidInput(field=option, expected=expected, got=text) from None
    if read.utcoffset() is None:
        raise InvalidInput(field=option, expected=expected, got=text)
    return read


def number(expected: str, least: float, most: float = math.inf) -> Callable[[str], float]:
    """The `type` of an argument that is a finite number in this range; `expected` says so in words."""

    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not (math.isfinite(value) and least <= value <= most):
            raise ArgumentTypeError(f"expected {expected}, got: {text!r}")
        return value

    return read
