"""What a claim costs in PostgreSQL, by the pages that it reads: the same whatever waits behind it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import psycopg
import pytest
from django.core.management import call_command
from django.db import connection, transaction

from pg_queue.domain import NewMessage
from pg_queue.settings import queue_settings
from pg_queue.sql import statements
from pg_queue.storage import store
from pg_queue.storage.postgres.turns import Turns

pytestmark = pytest.mark.django_db(transaction=True, available_apps=["pg_queue"])


@pytest.fixture(autouse=True)
def _planned_while_empty() -> None:
    """The session's plans are made by its first claims, when nothing is there; they hold for what comes."""
    empty()
    assert pages(1) < 100


def empty() -> None:
    with connection.cursor() as cursor:
        cursor.execute("TRUNCATE pg_queue_message")


def pages(limit: int) -> int:
    """How many pages a claim of so many messages reads. Making plans reads others, once."""
    return min(pages_of_claim(limit) for _ in range(3))


def pages_of_claim(limit: int) -> int:
    """Those of one claim that is then taken back."""
    parameters = {"namespace": "", "queues": ["default"], "limit": limit, "lease": 60.0, "worker": "w1"}
    explain = "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) " + statements("messages")["claim"]
    with transaction.atomic():
        with psycopg.ClientCursor(connection.connection) as cursor:
            rows: Any = cursor.execute(explain, parameters | Turns(queue_settings()).parameters()).fetchone()
        transaction.set_rollback(True)
    plan = rows[0][0]["Plan"]
    return int(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])


def fill(count: int, organizations: int, *, is_due: bool = True) -> None:
    """So many messages, of so many organizations in turn."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            INSERT INTO pg_queue_message (task, args, kwargs, headers, max_attempts, organization_id, run_after)
            SELECT 'noop', '[]', '{}', '{}', 3, 'organization ' || number %% %s, now() + make_interval(days => %s)
            FROM generate_series(1, %s) AS number
            """,
            [organizations, 0 if is_due else 1, count],
        )


@pytest.mark.parametrize("limit", [1, 30])
@pytest.mark.parametrize("organizations", [1, 20])
def test_a_claim_costs_the_same_before_a_hundred_times_the_backlog(organizations: int, limit: int) -> None:
    fill(300, organizations)
    few = pages(limit)
    fill(30_000, organizations)
    assert pages(limit) < 2 * few + 50  # the indexes are one level higher


def test_delayed_messages_are_not_walked() -> None:
    fill(40, 2)
    enough, too_few = pages(30), pages(100)
    fill(60_000, 2, is_due=False)
    assert pages(30) < 1.5 * enough + 50
    assert pages(100) < 1.5 * too_few + 50


@pytest.mark.parametrize("youngest", ["pg_queue_message_ready", "pg_queue_message_turns"])
def test_an_organization_is_found_behind_the_flood_of_another(youngest: str) -> None:
    """Whichever of the two indexes is the younger, by which the planner goes where both cost the same."""
    with connection.cursor() as cursor:
        cursor.execute(f"REINDEX INDEX CONCURRENTLY {youngest}")

    def behind(flood: int) -> int:
        empty()
        assert pages(30) < 100
        fill(flood, 1)
        fill(40, 2)
        return pages(30)

    assert behind(30_000) < 2 * behind(300) + 50


@pytest.mark.parametrize("limit", [1, 100])
def test_the_organizations_that_a_claim_looks_at_are_bounded(limit: int) -> None:
    fill(200, 200)
    two_hundred = pages(limit)
    fill(6000, 6000)
    assert pages(limit) < 2 * two_hundred + 50


def test_the_messages_of_one_claim_are_in_turns() -> None:
    for organization in ("acme", "zeta"):
        store().enqueue([NewMessage(task="noop", organization_id=organization) for _ in range(100)])
    claims = store().claim(queues=["default"], limit=100, lease=timedelta(seconds=60), worker="w1")
    first = [one.message.organization_id for one in claims[:40]]
    assert min(first.count("acme"), first.count("zeta")) >= 15


def test_a_database_whose_functions_are_older_gets_them_as_they_are() -> None:
    """By a migration of its own, since the one that creates them has been applied."""
    take = statements("turns")["create_take"]
    older = take.replace("m.organization_id = s.name", "m.organization_id >= s.name")
    assert older != take
    try:
        call_command("migrate", "pg_queue", "0005", verbosity=0)
        with connection.cursor() as cursor:
            cursor.execute(older.replace("%", "%%"))
    finally:
        call_command("migrate", verbosity=0)
    with connection.cursor() as cursor:
        cursor.execute("SELECT prosrc FROM pg_proc WHERE proname = 'pg_queue_take'")
        assert cursor.fetchone()[0] in take
