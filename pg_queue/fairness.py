"""`PG_QUEUE["FAIRNESS"]`: how organizations take turns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from types import UnionType
from typing import Any

from pg_queue.errors import Configuration

LARGEST = 2**31 - 1
"""What PostgreSQL's integers hold."""
HEAVIEST = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class FairnessSettings:
    """`PG_QUEUE["FAIRNESS"]`."""

    weights: Mapping[str, float] = field(default_factory=dict)
    """Shares by organization."""
    default_weight: float = 1.0
    """The share of an organization that is not among `weights`."""
    max_running: Mapping[str, int] | int | None = None
    """Most messages that run at one time: of each organization, or of those that are named; None: as many as there are
    workers for."""

    @property
    def most_by_name(self) -> Mapping[str, int]:
        """Of the organizations that are named."""
        return self.max_running if isinstance(self.max_running, Mapping) else {}

    @property
    def most_of_each(self) -> int | None:
        """Of each other one."""
        return self.max_running if isinstance(self.max_running, int) else None

    @property
    def is_limited(self) -> bool:
        """Whether there is any maximum."""
        return self.most_of_each is not None or bool(self.most_by_name)


def parse_fairness(raw: Mapping[str, Any]) -> FairnessSettings:
    """Validate `raw` (keys in upper case). Raises: Configuration."""
    known = {one.name.upper() for one in fields(FairnessSettings)}
    if unknown := sorted(set(raw) - known, key=str):
        expected = ", ".join(sorted(known))
        raise Configuration(f"PG_QUEUE['FAIRNESS']: expected keys among {expected}, got: {unknown[0]!r}")
    found = FairnessSettings(**{key.lower(): value for key, value in raw.items()})
    _check_weights(found.weights, found.default_weight)
    _check_max_running(found.max_running)
    return found


def _check_weights(weights: Any, default_weight: Any) -> None:
    for key, weight in {"'DEFAULT_WEIGHT'": default_weight, **_by_name("WEIGHTS", weights)}.items():
        if not _is_number(weight, int | float) or not 0 < weight <= HEAVIEST:
            raise _unfair(key, f"a number above 0, at most {HEAVIEST}", weight)


def _check_max_running(most: Any) -> None:
    if most is None:
        return
    numbers = {"'MAX_RUNNING'": most} if _is_number(most, int) else _by_name("MAX_RUNNING", most)
    for key, number in numbers.items():
        if not _is_number(number, int) or not 0 < number <= LARGEST:
            raise _unfair(key, f"a whole number above 0, at most {LARGEST}", number)


def _by_name(key: str, given: Any) -> dict[str, Any]:
    """What is `given` per organization, by the words that name each in an error."""
    if not isinstance(given, Mapping):
        raise _unfair(f"{key!r}", "a dictionary by organization", given)
    for name in given:
        if not isinstance(name, str):
            raise _unfair(f"{key!r}", "names of organizations as keys", name)
    return {f"{key!r}][{name!r}": value for name, value in given.items()}


def _is_number(value: object, kind: type | UnionType) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)


def _unfair(key: str, expected: str, got: object) -> Configuration:
    return Configuration(f"PG_QUEUE['FAIRNESS'][{key}]: expected {expected}, got: {got!r}")
