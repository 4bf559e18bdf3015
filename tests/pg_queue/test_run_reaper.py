"""`manage.py run_reaper` as a process: one round, rounds until it is stopped, and what it shows of itself."""

from __future__ import annotations

import json
import urllib.request
import uuid

import pytest

from tests.pg_queue.worker.conftest import until, worker_environment
from tests.processes import Manage, ProcessDatabase

pytestmark = pytest.mark.processes

QUEUE_DUTIES = {"expire_claims", "retain_outcomes", "forget_workers", "retain_celery_results", "recover_chords"}


def add_vanished_claim(database: ProcessDatabase) -> uuid.UUID:
    """A message whose worker has vanished: its lease has run out."""
    with database.connect() as session:
        row = session.execute(
            "INSERT INTO pg_queue_message (task, args, kwargs, headers, max_attempts, attempts, run_after, claim_token,"
            " claimed_by, lease_until) VALUES ('noop', '[]', '{}', '{}', 3, 1, '2026-01-01', gen_random_uuid(),"
            " 'gone:1:1', '2026-01-02') RETURNING id"
        ).fetchone()
    assert row is not None
    found: uuid.UUID = row[0]
    return found


def is_claimed(database: ProcessDatabase, message_id: uuid.UUID) -> bool:
    with database.connect() as session:
        row = session.execute(
            "SELECT claim_token IS NOT NULL FROM pg_queue_message WHERE id = %s", [message_id]
        ).fetchone()
    assert row is not None
    return bool(row[0])


def read(port: str, path: str) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=60) as answer:
        return str(answer.read().decode())


def test_once_makes_one_round_of_every_duty_and_tells_each(manage: Manage, process_database: ProcessDatabase) -> None:
    message_id = add_vanished_claim(process_database)
    process = manage.run("run_reaper", "--once", "--json", env=worker_environment())
    assert process.returncode == 0, process.output
    first, *rounds, last = [json.loads(line) for line in process.stdout.splitlines()]
    assert (first["event"], first["command"], last["event"]) == ("started", "run_reaper", "stopped")
    assert {done["event"] for done in rounds} == {"round"}
    rows = {done["duty"]: done["rows"] for done in rounds}
    assert rows.keys() >= QUEUE_DUTIES
    assert rows["expire_claims"] == 1
    assert {done["error"] for done in rounds} == {None}
    assert not is_claimed(process_database, message_id)


def test_it_makes_rounds_until_it_is_stopped_and_shows_its_health_meanwhile(
    manage: Manage, process_database: ProcessDatabase
) -> None:
    process = manage("run_reaper", "--health-port", "0", env=worker_environment())
    port = process.wait_for_line(r"^started command=run_reaper .*health_port=(\d+)")[1]
    for _ in range(2):  # the second is none of the first round's
        message_id = add_vanished_claim(process_database)
        until(lambda: not is_claimed(process_database, message_id), what="the claim to be taken back")  # noqa: B023

    assert json.loads(read(port, "/healthz"))["status"] == "ok"
    assert json.loads(read(port, "/readyz"))["status"] == "ready"
    until(lambda: "downbeat_claims_expired_total 2.0" in read(port, "/metrics"))
    metrics = read(port, "/metrics")
    assert 'downbeat_reaper_rows_total{duty="expire_claims"} 2.0' in metrics
    assert 'downbeat_queue_messages{queue="default",state="waiting",store="default"} 2.0' in metrics
    assert process.stop() == 0, process.output
    assert process.stdout.splitlines()[-1] == "stopped"


def test_wrong_settings_of_an_app_whose_duties_it_does_exit_with_2_and_say_why(manage: Manage) -> None:
    environment = {"DJANGO_SETTINGS_MODULE": "tests.settings", "TEST_SCHEDULER": '{"WRITEBACK_BATCH": 0}'}
    process = manage.run("run_reaper", "--once", env=environment)
    assert process.returncode == 2, process.output
    assert "SCHEDULER['WRITEBACK_BATCH']" in process.stderr
    assert "Traceback" not in process.stderr
