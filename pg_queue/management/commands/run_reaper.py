"""`manage.py run_reaper`: the reaper alone, for deployments that keep their schedulers lean."""

from __future__ import annotations

from typing import Any

from pg_queue.health import Pulse
from pg_queue.process import ServiceCommand, StopSignals
from pg_queue.reaper import DutyRounds, Round, all_duties, duty_apps, refuse_failed
from pg_queue.settings import queue_settings


class Command(ServiceCommand):
    """Makes rounds: the queue's duties, and those that other apps have added.

    They are those of `run_scheduler` without `--no-reaper`.
    """

    help = (
        "Return expired claims to the queue, carry outcomes into the ledger and delete what has outlived its time, as "
        "every run_scheduler does that runs without --no-reaper. Any number may run at once."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        """Check what the other apps' duties need, too."""
        self.app_labels = duty_apps()
        super().handle(*args, **options)

    def serve(self, **options: Any) -> None:
        """Make one round, or rounds until stopped."""
        once, rounds = options["once"], DutyRounds(all_duties())
        pulse = Pulse(limit_seconds=60 + queue_settings().reap_seconds)
        with StopSignals() as stop:
            health = self.health_server(options, pulse)
            self.say_started(**({"health_port": health.port} if health else {}))
            if health:
                health.start()
            while True:
                made = self._make_round(rounds, is_told_in_full=once)
                pulse.beat()
                if once or stop.wait(max(rounds.seconds_until_due(), 0.05)):
                    break
            if health:
                health.stop()
        self.say("stopped")
        if once:
            refuse_failed(made)

    def _make_round(self, rounds: DutyRounds, *, is_told_in_full: bool) -> list[Round]:
        made = rounds.run_due()
        for done in made:
            if done.rows or done.error or is_told_in_full:
                self.say("round", duty=done.duty, rows=done.rows, error=done.error)
        return made
