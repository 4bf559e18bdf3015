"""A scheduler process's main loop: wait for the lead, then tick while leading.

While leading it sleeps until the earliest due instant, by the database's clock, and at most until its next stamp; a
change to a schedule wakes it (`scheduler.lookout`). Each turn asks the database again what is due next, so a change of
which it did not hear costs at most `STAMP_SECONDS`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from pg_queue.api import SESSION_ERRORS, STAMP_SECONDS, Election, Leadership, LeadershipLost, candidacy
from scheduler import metrics
from scheduler.dialect import dialect
from scheduler.lookout import Stop, make_lookout
from scheduler.tick import Pass, Tick, make_shadow, make_tick, prepare

logger = logging.getLogger(__name__)

ELECTION = "scheduler"
HELD_SECONDS = 0.25
"""How often it is looked whether a run has ended that the next one waits for."""
_STALLED_SECONDS = 0.02, 0.5
"""First and longest wait when a due row could not be fired, because somebody else holds it."""
_RECOVERY_SECONDS = 0.1, 5.0
"""First and longest wait before standing again after an error."""


class Loop:
    """Runs in one thread, from `run` until stopped."""

    def __init__(
        self,
        stop: Stop,
        *,
        on_turn: Callable[[], None] = lambda: None,
        on_role: Callable[[Leadership | None], None] = lambda leadership: None,
        on_fired: Callable[[], None] = lambda: None,
        election: Election | None = None,
    ) -> None:
        """`on_turn` is called at every turn, standby's too; `on_role` when the lead is won (with it) or gone (None).

        `on_fired` is called after each pass that fired something.
        """
        self._stop = stop
        self._on_turn = on_turn
        self._on_role = on_role
        self._on_fired = on_fired
        self.election = election or candidacy(ELECTION)

    def run(self) -> None:
        """Stand and lead until stopped, then hand over.

        After an error the session is closed, and the process stands again.

        Raises:
            Configuration, DirectConnectionRequired: no session on which to lead can be had with these settings.
        """
        patience = _Patience(*_RECOVERY_SECONDS)
        prepare(dialect())
        with self.election:
            while not self._stop.count:
                try:
                    self._on_turn()
                    if leadership := self.election.stand():
                        self._lead(leadership)
                    patience.reset()
                except (*SESSION_ERRORS, LeadershipLost) as error:
                    metrics.LEADER_ERRORS.inc()
                    logger.warning("leader.session_lost error=%s: %s", type(error).__name__, str(error).strip())
                    self._stop.wait(patience.seconds())

    def run_once(self) -> Pass | None:
        """Make one pass if the lead can be had at once, and hand it over; None: another process leads.

        Raises: as `run`, and what ends a session (`SESSION_ERRORS`, `LeadershipLost`).
        """
        prepare(dialect())
        with self.election:
            leadership = self.election.stand()
            if leadership is None:
                return None
            with leadership:
                tick, shadow = make_tick(leadership), make_shadow(leadership)
                tick.release_held()
                made = tick.run()
                if shadow is not None:
                    metrics.note_shadow(shadow.run())
                return made

    def _lead(self, leadership: Leadership) -> None:
        metrics.note_lead(leadership)
        logger.info("leader.elected name=%s term=%s", leadership.name, leadership.term)
        self._on_role(leadership)
        try:
            with leadership:
                _Reign(leadership, self._stop, self._on_turn, self._on_fired).run()
        finally:
            metrics.note_lead(None)
            logger.info("leader.gone name=%s term=%s", leadership.name, leadership.term)
            self._on_role(None)


class _Reign:
    """One term: tick, sleep, tick."""

    def __init__(
        self, leadership: Leadership, stop: Stop, on_turn: Callable[[], None], on_fired: Callable[[], None]
    ) -> None:
        self._leadership, self._stop, self._on_turn, self._on_fired = leadership, stop, on_turn, on_fired
        self._lookout = make_lookout(leadership, stop)
        self._stalled = _Patience(*_STALLED_SECONDS)

    def run(self) -> None:
        tick = make_tick(self._leadership, is_stopping=self._turn)
        shadow = make_shadow(self._leadership, is_stopping=self._turn)
        while not self._stop.count:
            self._on_turn()
            made, shadowed = tick.run(), Pass() if shadow is None else shadow.run()
            metrics.note_pass(made)
            metrics.note_shadow(shadowed)
            if made.fired:
                self._on_fired()
            self._sleep(tick, has_moved=made.has_moved or shadowed.has_moved)

    def _turn(self) -> bool:
        """Say that the loop turns; whether a stop was asked for."""
        self._on_turn()
        return self._stop.count > 0

    def _sleep(self, tick: Tick, *, has_moved: bool) -> None:
        """Until something is due or changed, or a run has ended that was waited for; stamping meanwhile."""
        while not self._stop.count:
            seconds, has_held = self._lookout.outlook()
            is_called = self._wait_until_due(seconds, has_held=has_held, has_moved=has_moved)
            if (has_held and tick.release_held()) or is_called:
                return
            self._on_turn()
            self._leadership.stamp()

    def _wait_until_due(self, seconds: float | None, *, has_held: bool, has_moved: bool) -> bool:
        """Wait until `seconds` are over, but not beyond the next stamp; True when there is a reason to look."""
        if seconds is not None and seconds <= 0:
            if has_moved:
                self._stalled.reset()
            else:
                self._lookout.wait(self._stalled.seconds())
            return True
        self._stalled.reset()
        longest = HELD_SECONDS if has_held else STAMP_SECONDS
        is_near = seconds is not None and seconds <= longest
        return self._lookout.wait(seconds if seconds is not None and is_near else longest) or is_near


class _Patience:
    """Waits that double from the first to the longest."""

    def __init__(self, first: float, longest: float) -> None:
        self._first, self._longest = first, longest
        self._next = first

    def seconds(self) -> float:
        current, self._next = self._next, min(self._next * 2, self._longest)
        return current

    def reset(self) -> None:
        self._next = self._first
