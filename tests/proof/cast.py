"""The processes: Celery Beat and a Celery worker, two schedulers and a worker of PG; and what is done to them."""

from __future__ import annotations

import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from random import Random

import psycopg

from tests.processes import Manage, RunningProcess

SOON = 90
"""Seconds that nothing here takes, however slow the machine is."""
CLASSES = {
    "stock": "django_celery_beat.schedulers:DatabaseScheduler",
    "gate": "scheduler.beat.gate:DownbeatScheduler",
}
_LEADER = "SELECT process_id FROM pg_queue_leader WHERE name = 'scheduler'"
_CELERY = [sys.executable, "-m", "celery", "-A", "backend"]
_SOLO = ["-P", "solo", "-Q", "default,celery", "--without-gossip", "--without-mingle", "--without-heartbeat"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What was done to Celery Beat, and until when it could not send because of that."""

    what: str
    began_at: datetime
    ended_at: datetime


class Cast:
    """Starts them, and does them harm. Used by one thread; what is frozen is thawed by others."""

    def __init__(self, url: str, folder: Path, phase: str) -> None:
        self._session = psycopg.connect(url, autocommit=True)
        self._phase = phase
        self._manage = Manage(url)
        self._env = {
            "DJANGO_SETTINGS_MODULE": "tests.proof.settings",
            "DOWNBEAT_LOG_LEVEL": "WARNING",
            "DOWNBEAT_CELERY_BROKER_FOLDER": str(folder),
            "PROOF_BEAT_MODE": "gate" if phase == "gate" else "observe",
        }
        self._folder = folder
        self._thaws: list[threading.Timer] = []
        self.harm: Counter[str] = Counter()
        self.faults: list[Fault] = []

    def start(self) -> None:
        """Start all of them, and wait until they are up."""
        self.celery = self._launch([*_CELERY, "worker", "-l", "WARNING", *_SOLO])
        self.worker = self._start_worker()
        self.schedulers = [self._start_scheduler() for _ in range(2)]
        self.beat = self._start_beat()
        for process in (self.worker, *self.schedulers):
            process.wait_for_line("^started ", SOON)
        self.beat.wait_for_line("beat: Starting", SOON)

    def kill_leader(self, chance: Random) -> None:
        """SIGKILL the scheduler that leads, or one of them where none does."""
        place = self._leading(chance)
        self.schedulers[place].kill()
        self._stay_away(chance)
        self.schedulers[place] = self._start_scheduler()
        self.harm["scheduler killed"] += 1

    def kill_worker(self, chance: Random) -> None:
        """SIGKILL PG's worker with its children."""
        self.worker.kill(group=True)
        self._stay_away(chance)
        self.worker = self._start_worker()
        self.harm["worker killed"] += 1

    def kill_beat(self, chance: Random) -> None:
        """SIGKILL Celery Beat."""
        began_at = datetime.now(UTC)
        self.beat.kill()
        self._stay_away(chance)
        self.beat = self._start_beat()
        self.beat.wait_for_line("beat: Starting", SOON)
        self.faults.append(Fault(what="killed", began_at=began_at, ended_at=datetime.now(UTC)))
        self.harm["Beat killed"] += 1

    def freeze_scheduler(self, chance: Random) -> None:
        """SIGSTOP the scheduler that leads, and SIGCONT it seconds later, when the other one may lead."""
        self._freeze(self.schedulers[self._leading(chance)], chance.uniform(1, 12))
        self.harm["scheduler frozen"] += 1

    def freeze_beat(self, chance: Random) -> None:
        """SIGSTOP Celery Beat, and SIGCONT it seconds later, when it may count as gone."""
        seconds = chance.choice((chance.uniform(0.5, 3), chance.uniform(11, 14)))
        self._freeze(self.beat, seconds, "frozen")
        self.harm["Beat frozen"] += 1

    def thaw(self) -> None:
        """Wait until nobody is frozen any more."""
        for timer in self._thaws:
            timer.join()
        self._thaws.clear()

    def stop_firing(self) -> None:
        """Stop Celery Beat, and then the schedulers."""
        self._stop_beat()
        for process in self.schedulers:
            process.stop(SOON)

    def unread(self) -> int:
        """How many messages the Celery worker has not taken yet."""
        return sum(1 for _ in self._folder.glob("[0-9]*.msg"))

    def clean_up(self) -> None:
        """Kill what is left."""
        self.thaw()
        self._manage.clean_up()
        self._session.close()

    def _stop_beat(self) -> None:
        """Stock Beat on psycopg 3 may hang where SIGTERM comes in the middle of a query; then it is killed."""
        try:
            self.beat.stop(10 if self._phase == "stock" else SOON)
        except AssertionError:
            if self._phase != "stock":
                raise
            self.beat.kill()

    def _leading(self, chance: Random) -> int:
        found = self._session.execute(_LEADER).fetchone()
        pids = [process.pid for process in self.schedulers]
        return pids.index(found[0]) if found and found[0] in pids else chance.randrange(len(pids))

    def _freeze(self, process: RunningProcess, seconds: float, what: str = "") -> None:
        self.thaw()  # one at a time: with both schedulers frozen nothing happens at all
        began_at = datetime.now(UTC)
        process.freeze()

        def thaw() -> None:
            process.thaw()
            if what:
                self.faults.append(Fault(what=what, began_at=began_at, ended_at=datetime.now(UTC)))

        timer = threading.Timer(seconds, thaw)
        timer.start()
        self._thaws.append(timer)

    def _stay_away(self, chance: Random) -> None:
        time.sleep(chance.uniform(0, 2))  # the fault itself: how long it is gone

    def _start_scheduler(self) -> RunningProcess:
        return self._manage("run_scheduler", env=self._env)

    def _start_worker(self) -> RunningProcess:
        return self._manage("run_worker", "--concurrency", "1", env=self._env)

    def _start_beat(self) -> RunningProcess:
        return self._launch([*_CELERY, "beat", "-l", "INFO", "-S", CLASSES[self._phase]])

    def _launch(self, argv: list[str]) -> RunningProcess:
        return self._manage.launch(argv, env=self._env)
