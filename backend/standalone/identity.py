"""Names a process so that another one that got the same pid later is not mistaken for it."""

from __future__ import annotations

from dataclasses import dataclass

import psutil

# psutil computes the start from the boot time, which a clock correction moves a little.
START_TOLERANCE_SECONDS = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessIdentity:
    """A pid with its start time, as it is written into records that outlive the process."""

    pid: int
    started_at: float
    """Seconds since the epoch."""

    @classmethod
    def of(cls, pid: int) -> ProcessIdentity:
        """The identity of a process that runs now.

        Raises: psutil.NoSuchProcess when none has that pid.
        """
        return cls(pid=pid, started_at=psutil.Process(pid).create_time())

    def process(self) -> psutil.Process | None:
        """The process, or None when it is gone, a zombie, or its pid now belongs to another."""
        try:
            process = psutil.Process(self.pid)
            if abs(process.create_time() - self.started_at) > START_TOLERANCE_SECONDS:
                return None
            return None if process.status() == psutil.STATUS_ZOMBIE else process
        except psutil.NoSuchProcess:
            return None

    def as_record(self) -> dict[str, float]:
        """For JSON; `from_record` reads it back."""
        return {"pid": self.pid, "started_at": self.started_at}

    @classmethod
    def from_record(cls, record: dict[str, float]) -> ProcessIdentity:
        """Raises: KeyError, TypeError or ValueError for anything that `as_record` did not write."""
        return cls(pid=int(record["pid"]), started_at=float(record["started_at"]))
