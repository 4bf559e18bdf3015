"""Which SQL the scheduler's database speaks: the one place that asks for its vendor."""

from __future__ import annotations

from collections.abc import Mapping

from django.db import connections

from scheduler.settings import scheduler_settings
from scheduler.statements import statements

DIALECTS = {"postgresql": "postgres", "sqlite": "sqlite"}
"""Folders of `sql/` by the vendor of Django's connection."""


def dialect() -> str:
    """`postgres` or `sqlite`. What is neither is refused by the check scheduler.E002 before anything runs."""
    return DIALECTS[connections[scheduler_settings().database].vendor]


def is_sqlite() -> bool:
    """Whether there is one file and no server: no Celery Beat beside it, no partitions, no notifications."""
    alias = scheduler_settings().database
    return alias in connections.settings and connections[alias].vendor == "sqlite"


def own_statements(source: str) -> Mapping[str, str]:
    """The statements of `sql/<dialect>/<source>.sql` by name, for a cursor of Django's connection."""
    return statements(source, dialect())
