"""`manage.py run_scheduler`: stands for the lead, ticks while it leads, and reaps."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Mapping
from typing import Any

import psycopg
from django.core.management.base import CommandError, CommandParser

from pg_queue.api import (
    DutyRounds,
    ExitCode,
    Leadership,
    LeadershipLost,
    Pulse,
    Reaper,
    Relay,
    ServiceCommand,
    StopSignals,
    all_duties,
    refuse_failed,
)
from scheduler import metrics
from scheduler.loop import Loop

ALIVE_SECONDS = 30.0
"""`/healthz` fails when the main loop has not turned for so long."""


class Command(ServiceCommand):
    """One of any number of scheduler processes: the one that leads fires what is due, all reap."""

    help = (
        "Fire due schedules while this process leads; wait for the lead otherwise. Run two or more. "
        "With --once: one pass if the lead can be had at once, then exit (0 also when another process leads)."
    )
    app_labels = ("pg_queue", "scheduler")

    def add_arguments(self, parser: CommandParser) -> None:
        """The services' options, and the scheduler's own."""
        super().add_arguments(parser)
        parser.add_argument("--no-reaper", action="store_true", help="leave the reaper's duties to other processes")

    def serve(self, **options: Any) -> None:
        """Make one pass, or lead and wait until stopped."""
        self._leadership: Leadership | None = None
        self._relay = Relay()
        duties = [] if options["no_reaper"] else all_duties()
        with StopSignals() as stop:
            self._pulse = Pulse(limit_seconds=ALIVE_SECONDS)
            self._loop = Loop(stop, on_turn=self._pulse.beat, on_role=self._note_role, on_fired=self._relay.wake)
            if options["once"]:
                self._serve_once(DutyRounds(duties))
            else:
                self._serve_until_stopped(Reaper(duties) if duties else None, options)

    def _serve_once(self, rounds: DutyRounds) -> None:
        self.say_started(mode="once")
        try:
            made = self._loop.run_once()
        except (psycopg.OperationalError, sqlite3.OperationalError, LeadershipLost) as error:
            raise CommandError(f"leader session: {str(error).strip()}", returncode=ExitCode.DATABASE) from error
        if made is None:
            self.say("skipped", reason="another process leads", **self._standing())
        else:
            metrics.note_pass(made)
            self.say("passed", at=made.at, fired=made.fired, expired=made.expired, quarantined=len(made.quarantined))
        for topic, sent in ({} if made is None else self._relay.run_once()).items():
            self.say("relayed", topic=topic, sent=sent.taken, deferred=sent.refused + sent.unsent, error=sent.error)
        made_rounds = rounds.run_due()
        for done in made_rounds:
            if done.rows or done.error:
                self.say("round", duty=done.duty, rows=done.rows, error=done.error)
        refuse_failed(made_rounds)

    def _serve_until_stopped(self, reaper: Reaper | None, options: Mapping[str, Any]) -> None:
        health = self.health_server(options, self._pulse, details=self.details)
        self.say_started(**({"health_port": health.port} if health else {}))
        if health:
            health.start()
        if reaper:
            reaper.start()
        try:
            self._loop.run()
        finally:
            self._relay.join()
            if reaper:
                reaper.stop()
            if health:
                health.stop()
        self.say("stopped")

    def details(self) -> Mapping[str, Any]:
        """What `/readyz` adds: the role, the term of whoever leads as far as this process knows, and its relay.

        A target that does not answer makes nobody unready: the tick goes on, and what it fires waits in the outbox.
        """
        leadership = self._leadership
        if leadership is None:
            return {"role": "standby", **self._standing()}
        leads = {"role": "leader", "term": leadership.term, "since": leadership.since.isoformat()}
        return leads | ({"relay": relay} if (relay := self._relay.status()) else {})

    def _standing(self) -> Mapping[str, Any]:
        standing = self._loop.election.standing
        if standing is None:
            return {}
        return {"term": standing.term, "leader_host": standing.host, "leader_pid": standing.process_id}

    def _note_role(self, leadership: Leadership | None) -> None:
        self._leadership = leadership
        if leadership is None:
            self._relay.stop()
            self.say("standby", pid=os.getpid())
        else:
            self._relay.start()
            self.say("leader", pid=os.getpid(), term=leadership.term)
