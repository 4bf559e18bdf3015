"""The supervisor's eye on its schedulers sees those that live."""

from __future__ import annotations

import os
import queue
import socket
from collections.abc import Iterator

import psycopg
import pytest
from django.db import connection

from backend.standalone.leadership import Leadership, LeaderWatch

pytestmark = pytest.mark.django_db(transaction=True)
LED = """
INSERT INTO pg_queue_leader (name, term, pid, backend_start, host, process_id)
SELECT %s, %s, pid, backend_start, %s, %s FROM pg_stat_activity WHERE pid = pg_backend_pid()
"""


@pytest.fixture
def url() -> str:
    settings = connection.get_connection_params()
    names = {"dbname": "dbname", "user": "user", "password": "password", "host": "host", "port": "port"}
    return psycopg.conninfo.make_conninfo(**{n: settings[n] for n in names if settings.get(n)})


@pytest.fixture
def seen(url: str) -> Iterator[queue.Queue[Leadership]]:
    found: queue.Queue[Leadership] = queue.Queue()
    watch = LeaderWatch(url, found.put)
    watch.start()
    yield found
    watch.stop()
    watch.join(60)


def lead(session: psycopg.Connection, name: str) -> None:
    session.execute(LED, (name, 1, socket.gethostname(), os.getpid()))


def test_a_leader_that_was_killed_is_not_shown_though_its_row_stayed(url, seen):
    with psycopg.connect(url, autocommit=True) as killed:
        with killed.transaction():
            lead(killed, "a-killed")
            killed.execute("UPDATE pg_queue_leader SET backend_start = backend_start - interval '1 day'")
        with psycopg.connect(url, autocommit=True) as living:
            lead(living, "b-living")
            assert seen.get(timeout=60).name == "b-living"
    assert seen.empty()
