"""The schedules: fast ones, of one or two seconds, and slower ones, all fired by Celery Beat in the beginning."""

from __future__ import annotations

from random import Random
from uuid import UUID

from scheduler import api
from tests.proof import tasks

FAST = "PT1S", "PT2S"
CRONTABS = "* * * * *", "*/2 * * * *"
SLOW = 10, 60
"""Seconds, at least and at most, of a slower interval."""


def create(fast: int, slower: int, chance: Random) -> list[UUID]:
    """So many of each; their ids. A third of the slower ones are crontabs of minutes, the others intervals."""
    return [_create(expression) for expression in _expressions(fast, slower, chance)]


def another(kind: str, expression: str, chance: Random) -> str:
    """Another expression of the same kind, of a schedule that is as fast."""
    if kind == "crontab":
        return CRONTABS[expression == CRONTABS[0]]
    if expression in FAST:
        return FAST[expression == FAST[0]]
    return _slow(chance)


def _expressions(fast: int, slower: int, chance: Random) -> list[str]:
    crontabs = [CRONTABS[number % 2] for number in range(slower // 3)]
    intervals = [_slow(chance) for _ in range(slower - len(crontabs))]
    return [*(FAST[number % 2] for number in range(fast)), *crontabs, *intervals]


def _slow(chance: Random) -> str:
    return f"PT{chance.randint(*SLOW)}S"


def _create(expression: str) -> UUID:
    """`catch_up` is `all`, so that a slow machine leaves nothing out."""
    kind = "interval" if expression.startswith("PT") else "crontab"
    made = api.create_schedule(
        name="proof", task=tasks.NAME, kind=kind, expression=expression, firer="beat", catch_up="all"
    )
    found: UUID = made.pk
    return found
