"""What people do to the schedules, and what befalls the processes, at random from one seed."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import timedelta
from random import Random
from uuid import UUID

from scheduler import api
from tests.proof import scenario
from tests.proof.cast import Cast

PAUSE_SECONDS = 0.3, 1.5
"""Between two actions, at least and at most."""


class Chaos:
    """Deals actions from a shuffled deck, so that each has its turn before any has its second."""

    def __init__(self, cast: Cast, schedules: Sequence[UUID], chance: Random) -> None:
        self._cast = cast
        self._schedules = schedules
        self._chance = chance
        self._deck: list[Callable[[], None]] = []
        self.actions: Counter[str] = Counter()
        self.answers: Counter[str] = Counter()
        """What became of schedules that were to change their firer."""
        self.refusals: Counter[str] = Counter()

    def run(self, duration: timedelta) -> None:
        """Act for so long, and until every action has had a turn."""
        deadline = time.monotonic() + duration.total_seconds()
        is_dealt = False
        while time.monotonic() < deadline or not is_dealt:
            if not self._deck:
                self._deck = self._shuffled()
            action = self._deck.pop()
            is_dealt |= not self._deck
            self.actions[action.__name__.replace("_", " ").strip()] += 1
            action()
            time.sleep(self._chance.uniform(*PAUSE_SECONDS))

    def _shuffled(self) -> list[Callable[[], None]]:
        deck = [self._promote] * 4 + [self._roll_back] * 2 + [self._ramp, self._pause, self._resume]
        deck += [self._edit_what_it_runs, self._edit_when_it_occurs]
        deck += [self._kill_leader, self._kill_worker, self._freeze_scheduler]
        deck += [self._chance.choice((self._kill_beat, self._freeze_beat))]
        self._chance.shuffle(deck)
        return deck

    def _promote(self) -> None:
        """Random ones, PG's own among them."""
        chosen = self._some(10, 60)
        self._change(lambda: api.promote(api.chosen(schedules=chosen), is_forced=True, reason="proof"))

    def _roll_back(self) -> None:
        chosen = self._some(10, 60)
        self._change(lambda: api.roll_back(api.chosen(schedules=chosen), reason="proof"))

    def _ramp(self) -> None:
        percent = self._chance.uniform(20, 80)
        self._change(lambda: api.ramp(percent, is_forced=True, reason="proof"))

    def _pause(self) -> None:
        for one in self._some(1, 4):
            api.pause_schedule(one, reason="proof")

    def _resume(self) -> None:
        """All but one of those that are paused."""
        paused = list(api.PgPeriodicSchedule.objects.paused().order_by("pk").values_list("pk", flat=True))
        for one in paused[1:]:
            api.resume_schedule(one)

    def _edit_what_it_runs(self) -> None:
        for one in self._some(1, 4):
            number = self._chance.randint(1, 10)
            api.update_schedule(one, name=f"proof {number}", args=[number], priority=number)

    def _edit_when_it_occurs(self) -> None:
        for one in self._some(1, 4):
            row = api.get_schedule(one)
            api.update_schedule(one, expression=scenario.another(row.kind, row.cron_string, self._chance))

    def _kill_leader(self) -> None:
        self._cast.kill_leader(self._chance)

    def _kill_worker(self) -> None:
        self._cast.kill_worker(self._chance)

    def _kill_beat(self) -> None:
        self._cast.kill_beat(self._chance)

    def _freeze_scheduler(self) -> None:
        self._cast.freeze_scheduler(self._chance)

    def _freeze_beat(self) -> None:
        self._cast.freeze_beat(self._chance)

    def _some(self, least: int, most: int) -> list[UUID]:
        return self._chance.sample(self._schedules, min(len(self._schedules), self._chance.randint(least, most)))

    def _change(self, ask: Callable[[], list[api.HandoverAnswer]]) -> None:
        """While a Beat that was killed counts as alive, or none does, a hand-over is refused as a whole."""
        try:
            answers = ask()
        except api.HandoverRefused as refused:
            self.refusals[_first(str(refused))] += 1
            return
        self.answers.update(answer.status.value for answer in answers)
        self.refusals.update(_first(answer.reason) for answer in answers if answer.is_refused)


def _first(sentence: str) -> str:
    """What all refusals of a kind begin with: before any number, and any clause of what to do."""
    return re.split(r"[;\d\n]", sentence)[0][:70].strip()
