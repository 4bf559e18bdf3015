"""Free TCP ports on the loopback address."""

from __future__ import annotations

import socket
import time
from collections.abc import Collection
from random import SystemRandom

from backend.standalone.errors import StandaloneError

LOOPBACK = "127.0.0.1"
# Below Linux's range of outgoing ports (32768 and up), so that no client's socket sits on one while a server restarts.
SERVER_PORTS = range(20000, 32000)


def free_port(candidates: range = SERVER_PORTS) -> int:
    """A port of 127.0.0.1 that nothing is bound to now.

    Raises: StandaloneError when 200 random ones are all taken.
    """
    random = SystemRandom()
    for _ in range(200):
        port = random.choice(candidates)
        if is_free(port):
            return port
    raise StandaloneError(f"no free TCP port between {candidates.start} and {candidates.stop - 1} on {LOOPBACK}.")


def free_ports(count: int, *, other_than: Collection[int] = ()) -> list[int]:
    """So many different free ports, none of them in `other_than`: those that servers yet to start are meant to have.

    Raises: as `free_port`.
    """
    found: list[int] = []
    while len(found) < count:
        port = free_port()
        if port not in (*found, *other_than):
            found.append(port)
    return found


def is_free(port: int) -> bool:
    """True when a server could listen on the port now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server does: TIME_WAIT does not count
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
        return True


def becomes_free(port: int, *, seconds: float) -> bool:
    """Wait at most `seconds` for a port whose last server is just going; True once it is free."""
    deadline = time.monotonic() + seconds
    while not is_free(port):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True
