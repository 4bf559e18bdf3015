"""What every database's election promises; the package's docstring tells how each keeps it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import Self

STAMP_SECONDS = 2.0
"""How often a leader stamps at least."""
BATCH_SECONDS = 3.0
"""How long a leader's transaction may last: a statement of it that takes longer is cut off. Shorter than the time after
which a silent leader loses the lead, so that a slow batch costs itself and not the lead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What a standby last read of the leader; None, but for `is_holder`, before the first election."""

    is_holder: bool
    """This very session holds the lead."""
    term: int | None
    host: str | None
    process_id: int | None
    stamp_age_seconds: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Leadership(ABC):
    """One term of one process, on a session of its own. Not safe between threads."""

    name: str
    term: int
    since: datetime
    previous_heartbeat_at: datetime | None
    """The last sign of the leader before; from then until `since` nobody led. None: there was none."""

    @abstractmethod
    def stamp(self) -> datetime:
        """Say that this term goes on; the database's clock. Joins the session's transaction, else commits.

        Raises:
            LeadershipLost: the term is not this session's any more: nothing of the transaction may be committed.
            One of `SESSION_ERRORS`: the session is gone, or the database is in trouble.
        """

    @abstractmethod
    def transaction(self) -> AbstractContextManager[datetime]:
        """A transaction that commits only while this term lasts; yields the database's clock at its beginning.

        A statement that goes on for longer than `BATCH_SECONDS` is cut off and raises; the session is sound.
        """

    @abstractmethod
    def resign(self) -> None:
        """End the term in good order and close the session. A session already gone is no error: so is the term."""

    @abstractmethod
    def close(self) -> None:
        """Abandon the term and what is not committed."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Resign after a good end; after any error the session is in doubt, and is closed."""
        self.resign() if error is None else self.close()


@dataclass(slots=True, kw_only=True)
class Election(ABC):
    """A process's candidacy for the lead called `name`. Use from one thread; close it, or use it in a `with`."""

    name: str
    standing: Standing | None = None
    """What the last round read, for `/readyz`."""

    @abstractmethod
    def stand(self) -> Leadership | None:
        """Wait for the lead, at most about a second; None: another process has it, call again.

        The session is kept from one round to the next, and is handed to the `Leadership` that is won. After any error
        it is closed, and the next round opens another.

        Raises:
            Configuration, DirectConnectionRequired: no session to lead on can be had with these settings.
            One of `SESSION_ERRORS`: the database cannot be reached, or ended the session.
        """

    @abstractmethod
    def close(self) -> None:
        """Give up waiting. Does nothing to a lead already won."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
