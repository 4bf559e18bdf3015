"""What an earlier supervisor on the same data directory left behind, and the lock that tells "earlier" from "now".

Each supervisor marks its children with a secret of its own in their environment, and writes that secret down. A process
is a remnant when it carries the secret: a pid that was given to somebody else since is never touched.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
from pathlib import Path

import psutil

from backend.standalone.errors import AlreadyRunning
from backend.standalone.placement import write_private

MARK = "DOWNBEAT_SUPERVISOR"
RECORD = "supervisor.json"
LOCK = "supervisor.lock"


class Tenure:
    """The right to supervise one data directory: one process of a machine has it, until it gives it back or dies."""

    def __init__(self, data_dir: Path) -> None:
        """Take the lock.

        Raises: AlreadyRunning with the holder's pid.
        """
        self.data_dir = data_dir
        self._lock = os.open(data_dir / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._lock)
            raise AlreadyRunning(
                f"Downbeat already runs on {data_dir} (pid {read_record(data_dir).get('pid', 'unknown')}). Stop that "
                f"one with ctrl-C or `kill`, or choose another DATA_DIR and PORT."
            ) from None
        self.secret = secrets.token_hex(16)

    def reclaim(self) -> int:
        """End what the supervisor before left running, then write down our own secret. How many were ended."""
        ended = end_marked(str(read_record(self.data_dir).get("secret", "")), grace_seconds=3)
        write_private(self.data_dir / RECORD, {"pid": os.getpid(), "secret": self.secret})
        return ended

    def end(self) -> None:
        """Kill whatever still carries our secret, and give the right back."""
        end_marked(self.secret, grace_seconds=0)
        (self.data_dir / RECORD).unlink(missing_ok=True)
        os.close(self._lock)


def read_record(data_dir: Path) -> dict[str, object]:
    """What the last supervisor wrote; empty when there is nothing to read."""
    try:
        record = json.loads((data_dir / RECORD).read_text())
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def marked(secret: str) -> list[psutil.Process]:
    """The running processes, of this user, that carry the secret."""
    found = []
    for process in psutil.process_iter():
        try:
            if secret and process.environ().get(MARK) == secret and process.pid != os.getpid():
                found.append(process)
        except psutil.Error:  # gone, a zombie, or not ours to read
            continue
    return found


def end_marked(secret: str, *, grace_seconds: float) -> int:
    """SIGTERM to all that carry the secret, SIGKILL to those that stay; how many there were."""
    found = marked(secret)
    if grace_seconds:
        _each(found, "resume")
        _each(found, "terminate")
        psutil.wait_procs(found, timeout=grace_seconds)
    left = marked(secret)  # afresh: one of them may have started another
    _each(left, "kill")
    psutil.wait_procs(left, timeout=5)
    return len(found)


def _each(processes: list[psutil.Process], action: str) -> None:
    for process in processes:
        try:
            getattr(process, action)()
        except psutil.NoSuchProcess:
            continue
