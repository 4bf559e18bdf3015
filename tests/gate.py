"""A door in front of a server: shut, it refuses and cuts off; held, it lets nothing through and says nothing."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator


class Gate:
    """Listens on a port of its own and passes on to `address` and back, until it is shut or held."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._address = address
        self._flows = threading.Event()
        self._flows.set()
        self._open: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._serve()

    def shut(self) -> None:
        """Refuse whoever comes, and cut off whoever is there: as when the server is gone."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for one in self._open:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        self._open.clear()

    def open(self) -> None:
        """Listen again, on the same port."""
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self._serve()

    def hold(self) -> None:
        """Accept, and pass nothing on: as when the server is frozen."""
        self._flows.clear()

    def let_go(self) -> None:
        """Pass everything on again, also what was held."""
        self._flows.set()

    def _serve(self) -> None:
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = listener.accept()
                far = socket.create_connection(self._address)
                self._open += [near, far]
                for source, target in ((near, far), (far, near)):
                    threading.Thread(target=self._pass_on, args=(source, target), daemon=True).start()

    def _pass_on(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                self._flows.wait()
                target.sendall(data)
        for one in (source, target):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def gate_to(address: tuple[str, int]) -> Iterator[Gate]:
    """A gate that is shut at the end."""
    gate = Gate(address)
    try:
        yield gate
    finally:
        gate.let_go()
        with contextlib.suppress(OSError):
            gate.shut()
