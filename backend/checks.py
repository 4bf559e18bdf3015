"""System checks of the reference project."""

from __future__ import annotations

import os
from typing import Any

from django.core.checks import CheckMessage, Error, Tags, register
from django.db import DatabaseError, connections

from backend.standalone.placement import CLUSTER_PREFIX

EMBEDDED_VARIABLE = "DOWNBEAT_EMBEDDED"


@register(Tags.security, deploy=True)
def embedded_postgres_is_not_deployed(**_: Any) -> list[CheckMessage]:
    """`check --deploy` refuses the PostgreSQL of `make run` (backend.E001).

    Recognised by the variable that the supervisor sets, and by the server itself: its `cluster_name` says so to whoever
    connects. A database that cannot be reached is not this check's affair.
    """
    reasons = [f"{EMBEDDED_VARIABLE}=1 is set"] if os.environ.get(EMBEDDED_VARIABLE) == "1" else []
    reasons += [f"DATABASES[{alias!r}] is one" for alias in connections if _is_embedded(alias)]
    return [
        Error(
            f"The embedded PostgreSQL is for trying Downbeat, not for production: {reason}.",
            hint="Set DATABASE_URL to a PostgreSQL that is operated and backed up, and start the processes of "
            "docker-compose.yml instead of `make run`.",
            id="backend.E001",
        )
        for reason in reasons
    ]


def _is_embedded(alias: str) -> bool:
    connection = connections[alias]
    if connection.vendor != "postgresql":
        return False
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT current_setting('cluster_name')")
            return bool(cursor.fetchone()[0].startswith(CLUSTER_PREFIX))
    except DatabaseError:
        return False
