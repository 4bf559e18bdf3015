"""`manage.py run_reaper`: the reaper alone, for deployments that keep their schedulers lean."""

from __future__ import annotations

from typing import Any

from pg_queue.health import HealthServer, Pulse
from pg_queue.process import ServiceCommand, StopSignals
from pg_queue.reaper import Duty, DutyRounds, queue_duties
from pg_queue.settings import queue_settings


class Command(ServiceCommand):
    """Makes rounds: expired claims go back to the queue, what has outlived its time is deleted."""

    help = "Return expired claims to the queue and delete what has outlived its time. Any number may run at once."

    def duties(self) -> list[Duty]:
        """What it does; a project with more duties extends it."""
        return queue_duties()

    def serve(self, **options: Any) -> None:
        """Make one round, or rounds until stopped."""
        once, port, host = options["once"], options["health_port"], options["health_host"]
        rounds = DutyRounds(self.duties())
        pulse = Pulse(limit_seconds=60 + queue_settings().reap_seconds)
        health = None if port is None else HealthServer(port, pulse, host=host)
        self.say_started(**({"health_port": health.port} if health else {}))
        if health:
            health.start()
        with StopSignals() as stop:
            while True:
                self._make_round(rounds)
                pulse.beat()
                if once or stop.wait(max(rounds.seconds_until_due(), 0.05)):
                    break
        if health:
            health.stop()
        self.say("stopped")

    def _make_round(self, rounds: DutyRounds) -> None:
        for done in rounds.run_due():
            if done.rows or done.error or self._as_json:
                self.say("round", duty=done.duty, rows=done.rows, error=done.error)
