"""The web process's /healthz, /readyz and /metrics."""

from __future__ import annotations

import os
import re

import pytest
from django.core.cache import cache
from django.db import DatabaseError, InterfaceError, OperationalError
from django.db.migrations.recorder import MigrationRecorder

from backend import metrics
from pg_queue import api as queue
from scheduler import api
from scheduler.beat import mirror
from tests.backend.handovers import handover

pytestmark = pytest.mark.django_db


def test_healthy_and_ready_without_a_login(client):
    assert client.get("/healthz").json() == {"status": "ok"}
    assert client.get("/readyz").json() == {"status": "ready"}


def test_not_ready_while_a_migration_is_missing(client):
    latest = MigrationRecorder.Migration.objects.filter(app="scheduler").latest("name")
    latest.delete()
    answer = client.get("/readyz")
    assert answer.status_code == 503
    assert any(f"scheduler.{latest.name}" in name for name in answer.json()["migrations"])


@pytest.mark.parametrize("error", [OperationalError, InterfaceError])
def test_neither_ready_nor_scraped_while_the_database_is_away_and_no_detail_leaks(client, monkeypatch, error):
    def away(*args, **kwargs):
        raise error("connection to 10.0.0.7 failed: password authentication failed")

    monkeypatch.setattr("django.db.backends.base.base.BaseDatabaseWrapper.cursor", away)
    cache.clear()
    ready, scraped = client.get("/readyz"), client.get("/metrics")
    assert (ready.status_code, scraped.status_code) == (503, 503)
    assert ready.json() == {"status": "unready", "database": "cannot be reached"}
    assert b"10.0.0.7" not in ready.content + scraped.content
    assert client.get("/healthz").status_code == 200


def test_metrics_are_of_the_database_at_the_scrape(client, make_schedule):
    make_schedule()
    make_schedule(enabled=False)
    handover(make_schedule(firer="beat"), state="waiting", ended_at=None, to_firer="beat", method="return")
    queue.enqueue("noop", queue="slow")
    api.PgPeriodicSchedule.objects.filter(enabled=True).update(next_run_at="2020-01-01T00:00Z")
    metrics.Leader.objects.create(name="scheduler", term=7, heartbeat_at="2020-01-01T00:00Z")
    lines = client.get("/metrics").content.decode().splitlines()
    values = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    assert float(values['downbeat_queue_messages{queue="slow",state="waiting",store="default"}']) == 1
    assert float(values['downbeat_queue_oldest_due_seconds{queue="slow",store="default"}']) >= 0
    by_firer = [float(values[f'downbeat_schedules{{firer="{firer}"}}']) for firer in ("pg", "beat")]
    waiting = [float(values[f'downbeat_handovers_waiting{{to="{firer}"}}']) for firer in ("pg", "beat")]
    assert (by_firer, waiting) == ([2, 1], [0, 1])
    assert float(values["downbeat_schedules_paused"]) == 1
    assert float(values["downbeat_due_lag_seconds"]) > 86400
    assert float(values['downbeat_leader_term{election="scheduler"}']) == 7
    assert float(values['downbeat_leader_heartbeat_age_seconds{election="scheduler"}']) > 86400
    assert float(values["downbeat_mirror_failures_open"]) == 0


def test_what_beats_processes_have_sent_is_told_by_process_and_those_that_are_gone_do_not_live(client, make_schedule):
    process = {"process_id": 7, "scheduler": "module:Class", "mode": "gate"}
    live = api.BeatProcess.objects.create(
        host="here", sends=5, refused_sends=4, failed_sends=3, lost_sends=2, **process
    )
    gone = api.BeatProcess.objects.create(host="there", stopped_at=live.started_at, **process)
    api.BeatProcess.objects.create(host="long-ago", heartbeat_at="2020-01-01T00:00Z", **process)
    for maker in (live, gone, gone):
        api.BeatSend.objects.create(
            process=maker, beat_name="x", message_id="1", sent_at="2020-01-01T00:00Z", is_first=True, state="claimed"
        )
    lines = client.get("/metrics").content.decode().splitlines()
    values = dict(line.rsplit(" ", 1) for line in lines if line.startswith("downbeat_beat_"))
    assert float(values["downbeat_beat_processes"]) == 1
    assert float(values["downbeat_beat_unknown_sends"]) == 2
    sends = {
        state: float(values[f'downbeat_beat_sends_total{{process="here:7",state="{state}"}}'])
        for state in ("sent", "refused", "failed")
    }
    assert sends == {"sent": 5, "refused": 4, "failed": 3}
    assert float(values['downbeat_beat_lost_sends_total{process="here:7"}']) == 2
    assert not any("long-ago" in name for name in values)


def test_mirror_writes_that_fail_in_this_process_are_counted_at_the_scrape(client, make_schedule, monkeypatch):
    def failures() -> dict[str, float]:
        found = re.findall(
            r'^downbeat_mirror_failures_total\{path="(\w+)",process="(\d+)"\} (\S+)$',
            client.get("/metrics").content.decode(),
            re.MULTILINE,
        )
        assert {int(process) for _, process, _ in found} == {os.getpid()}
        return {path: float(value) for path, _, value in found}

    def refuse(*args: object) -> None:
        raise DatabaseError("the mirror is broken")

    before = failures()
    assert before.keys() == {"create", "update", "pause", "resume", "delete", "follow"}
    schedule = make_schedule(firer="beat")
    assert failures() == before
    monkeypatch.setattr(mirror, "_write", refuse)
    api.pause_schedule(schedule.pk)
    assert failures() == before | {"pause": before["pause"] + 1}


def test_probes_are_not_redirected_to_https(client, settings):
    settings.SECURE_SSL_REDIRECT = True
    assert client.get("/readyz").status_code == 200
    assert client.get("/admin/").status_code == 301


def test_only_reading_is_allowed(client):
    assert client.post("/metrics").status_code == 405
