"""A small HTTP server in a thread, for probes and Prometheus. No login: bind it where only they can reach it."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from django.db import connections
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, generate_latest

from pg_queue.health.metrics import METRICS
from pg_queue.health.readiness import Pulse, problems
from pg_queue.ports import QueueStore

Answer = tuple[int, str, bytes]


class HealthServer:
    """Serves `/healthz`, `/readyz` and `/metrics` from `start` to `stop`.

    `/healthz`: 200 while `pulse` beats, else 503. `/readyz`: 200 while the database answers and has the migrations of
    `app_labels`, else 503 and what is missing; with what `details` returns (JSON) in both cases. The database is the
    queue's, or with `used` the one that this store is in; where that has a server of its own, the server counts.
    `/metrics`: the queue's registry and prometheus_client's default one, in its text format.
    """

    def __init__(
        self,
        port: int,
        pulse: Pulse,
        *,
        host: str = "127.0.0.1",
        app_labels: tuple[str, ...] = ("pg_queue",),
        details: Callable[[], Mapping[str, Any]] = dict,
        used: QueueStore | None = None,
    ) -> None:
        """Bind at once; `port` 0 is any free one. Raises: OSError when the address is taken."""
        self._pulse, self._app_labels, self._details, self._used = pulse, app_labels, details, used
        self._server = ThreadingHTTPServer((host, port), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, name="health", daemon=True)

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return int(self._server.server_address[1])

    def start(self) -> None:
        """Serve from now on, in a thread."""
        self._thread.start()

    def stop(self) -> None:
        """Answer nobody any more, and free the port."""
        if self._thread.is_alive():
            self._server.shutdown()
        self._server.server_close()

    def answer(self, path: str) -> Answer:
        """Status, content type and body for a path."""
        if path == "/healthz":
            return self._healthz()
        if path == "/readyz":
            return self._readyz()
        if path == "/metrics":
            return 200, CONTENT_TYPE_LATEST, generate_latest(REGISTRY) + generate_latest(METRICS)
        return _json(404, {"error": "expected /healthz, /readyz or /metrics"})

    def _healthz(self) -> Answer:
        is_alive = self._pulse.is_alive
        body = {"status": "ok" if is_alive else "stuck", "pulse_age_seconds": round(self._pulse.age_seconds, 3)}
        return _json(200 if is_alive else 503, body)

    def _readyz(self) -> Answer:
        found = problems(self._app_labels, self._used)
        body = {"status": "unready" if found else "ready", **found, **self._details()}
        return _json(503 if found else 200, body)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        answer = self.answer

        class Handler(BaseHTTPRequestHandler):
            timeout = 5

            def do_GET(self) -> None:
                try:
                    status, content_type, body = answer(self.path.partition("?")[0])
                finally:
                    connections.close_all()  # this request's thread ends with it
                self.send_response(status)
                self.send_header("Content-Type", content_type)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:
                """Nothing: a probe every few seconds is no news."""

        return Handler


def _json(status: int, body: Mapping[str, Any]) -> Answer:
    return status, "application/json", json.dumps(body, default=str).encode()
