"""When a worker that was not given all that it asked for asks again."""

from __future__ import annotations

LEAST_SECONDS = 0.02
"""A due message that another worker is just claiming must not make this one spin."""


class Polling:
    """Waits as long as nothing is due. Where something is and yet nothing was claimed, each time twice as long.

    So it is when what is due may not run: its organization runs as much as it may. That changes when a message ends.
    """

    def __init__(self, most_seconds: float) -> None:
        self._most, self._next, self._ended = most_seconds, LEAST_SECONDS, 0
        self._is_held_back = False

    def hear(self) -> None:
        """Somebody has said that there may be work: patience begins anew."""
        self._next = LEAST_SECONDS

    def is_freed(self, ended: int) -> bool:
        """Whether what was held back may run now: this worker, which has ended so many in all, has just ended some."""
        is_freed = self._is_held_back and ended != self._ended
        self._ended = ended
        if is_freed:
            self.hear()
        return is_freed

    def seconds(self, claimed: int, due: float | None) -> float:
        """How long to wait after a claim of so many, fewer than asked for; `due`: until something is, None: nothing."""
        self._is_held_back = due == 0
        if claimed or not self._is_held_back:
            self.hear()
            return max(self._most if due is None else min(self._most, due), LEAST_SECONDS)
        wait, self._next = self._next, min(2 * self._next, max(self._most, LEAST_SECONDS))
        return wait
