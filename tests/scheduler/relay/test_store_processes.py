"""Occurrences relayed into another store while the relay is killed: each is stored once, and its outcome comes back."""

from __future__ import annotations

import json
import os
import sys
import uuid
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from tests.processes import Manage, ProcessDatabase, SqliteFile, copied_database, sqlite_url
from tests.scheduler.processes.test_failover import wait_until
from tests.scheduler.relay.brokers import SOON
from tests.scheduler.relay.test_celery_processes import fire_many, kill_relays
from tests.scheduler.rows import Rows
from tests.services import REDIS_URL

pytestmark = [pytest.mark.processes, pytest.mark.long, pytest.mark.timeout(600)]

COUNT = 2000
ROUTES = {"*": {"STORE": "far"}}


@pytest.fixture
def far(request: pytest.FixtureRequest, process_template: str, sqlite_file: SqliteFile) -> Iterator[dict[str, Any]]:
    """A store, and the environment that it needs: its entry in `STORES` under `store`."""
    if request.param == "namespace":
        yield {"store": {"NAMESPACE": "far"}}
    elif request.param == "sqlite":
        yield {"store": {"DATABASE": "other"}, "PROJ_OTHER_DATABASE_URL": sqlite_url(sqlite_file.path)}
    elif request.param == "postgresql":
        with copied_database(os.environ["DATABASE_URL"], process_template, "far") as other:
            yield {"store": {"DATABASE": "other"}, "PROJ_OTHER_DATABASE_URL": other.url}
    else:
        prefix = f"downbeat-test-{uuid.uuid4().hex}"
        yield {"store": {"BACKEND": "redis", "URL": REDIS_URL, "OPTIONS": {"PREFIX": prefix}}}
        client = Redis.from_url(REDIS_URL)
        for key in client.scan_iter(f"*{prefix}*", count=1000):
            client.delete(key)


def environment_of(far: dict[str, Any], folder: Path) -> dict[str, str]:
    conf = {
        "STORES": {"default": {}, "far": far["store"]},
        "ROUTES": ROUTES,
        "RELAY_LEASE_SECONDS": 2,
        "RELAY_BATCH": 10,
    }
    return {
        "DJANGO_SETTINGS_MODULE": "tests.scheduler.relay.proj.settings",
        "PROJ_PG_QUEUE": json.dumps(conf),
        "PROJ_NOTES": str(folder / "notes"),
        **{name: value for name, value in far.items() if name != "store"},
    }


def work_off(manage: Manage, environment: dict[str, str]) -> list[str]:
    """Execute what the other store holds; the ids."""
    worker = manage.launch([sys.executable, "-m", "tests.scheduler.relay.working"], env=environment)
    assert worker.wait(SOON) == 0, worker.output
    done: list[str] = json.loads(worker.stdout.splitlines()[-1])
    return done


@pytest.mark.parametrize(
    "far",
    [
        pytest.param("namespace", marks=pytest.mark.soak),
        "postgresql",
        "sqlite",
        pytest.param("redis", marks=pytest.mark.services("redis")),
    ],
    indirect=True,
)
def test_each_occurrence_is_stored_once_and_its_outcome_comes_back_however_often_the_relay_is_killed(
    manage: Manage, rows: Rows, process_database: ProcessDatabase, far: dict[str, Any], tmp_path: Path
) -> None:
    stores = {"default": {}, "far": {"NAMESPACE": "any"}}
    fired = fire_many(process_database, rows, COUNT, ROUTES, STORES=stores)
    environment = environment_of(far, tmp_path)
    done: list[str] = []
    # What is worked off before its relay could say so is sent again afterwards: an end must not make it forgotten.
    kill_relays(manage, rows, environment, kills=8, meanwhile=lambda: done.extend(work_off(manage, environment)))
    done += work_off(manage, environment)

    assert Counter(done) == Counter(fired)
    ended = "SELECT count(*) FROM scheduler_schedulerun WHERE state = 'succeeded' AND relayed_at IS NOT NULL"
    wait_until(lambda: rows.count(ended) == COUNT, SOON, "every outcome is in the ledger")
