"""How other threads make a waiting one look up."""

from __future__ import annotations

import contextlib
import socket


class Waker:
    """Makes a waiting thread look up, from any thread."""

    def __init__(self) -> None:
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)

    def fileno(self) -> int:
        """Readable when somebody has woken."""
        return self._reader.fileno()

    def wake(self) -> None:
        """Never waits; one that is full will do."""
        with contextlib.suppress(OSError):
            self._writer.send(b"\0")

    def drain(self) -> None:
        """Forget who has woken."""
        with contextlib.suppress(OSError):
            while self._reader.recv(4096):
                pass

    def close(self) -> None:
        """Give both ends up."""
        self._reader.close()
        self._writer.close()
