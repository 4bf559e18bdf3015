"""What the person at the terminal is told: where everything is, how to log in, who leads, and how to try a failover."""

from __future__ import annotations

import socket
import time
from contextlib import suppress

from backend.standalone.credentials import CREDENTIALS, Credentials
from backend.standalone.leadership import Leadership
from backend.standalone.ports import LOOPBACK
from backend.standalone.preparation import Options
from backend.standalone.services import BEAT, Ports
from backend.standalone.supervisor import Supervisor

LONGEST_WAIT_SECONDS = 15.0


class Banner:
    """Shown once, when the web process answers; after that, a line at each change of leader."""

    def __init__(
        self, supervisor: Supervisor, options: Options, ports: Ports, credentials: Credentials, *, started_at: float
    ) -> None:
        """`started_at`: `time.monotonic()` of the start that the banner is the end of."""
        self.supervisor = supervisor
        self.options = options
        self.ports = ports
        self.credentials = credentials
        self.started_at = started_at
        self.leaders: dict[str, Leadership] = {}
        self.is_shown = False
        self._made_at = time.monotonic()

    def show_when_ready(self) -> None:
        """Show the banner once: as soon as the web port accepts a connection and a leader is known.

        Without a leader it waits for one no longer than 15 s: the person should see the address and the trouble.
        """
        is_led = bool(self.leaders) or time.monotonic() - self._made_at > LONGEST_WAIT_SECONDS
        if not self.is_shown and is_led and self._web_accepts():
            self.is_shown = True
            self.supervisor.terminal.show("\n".join(["", *self._lines(), ""]))

    def lead(self, leader: Leadership) -> None:
        """Take note of a leader; after the banner, say so."""
        self.leaders[leader.name] = leader
        if self.is_shown:
            self.supervisor.terminal.say("downbeat", "\n".join(self._leader_lines(leader)))

    def _web_accepts(self) -> bool:
        with suppress(OSError), socket.create_connection((LOOPBACK, self.ports.web), timeout=0.2):
            return True
        return False

    def _lines(self) -> list[str]:
        url = self.credentials.url
        health = [f"http://{LOOPBACK}:{port}/readyz" for port in (*self.ports.schedulers, self.ports.worker)]
        return [
            f"  Downbeat runs, {time.monotonic() - self.started_at:.1f} s after its start. Ctrl-C stops everything.",
            "",
            f"  Admin      {url}/admin/",
            f"  API docs   {url}/api/docs/",
            f"  Comparison {url}/admin/scheduler/pgperiodicschedule/comparison/  {self._beat()}",
            *self._login_lines(),
            f"  Health     {url}/readyz  {'  '.join(health)}",
            *(line for leader in self.leaders.values() for line in self._leader_lines(leader)),
        ]

    def _beat(self) -> str:
        pids = [child.pid for child in self.supervisor.children if child.spec.name == BEAT]
        if not pids:
            return "no Celery Beat: DOWNBEAT_DEMO_BEAT=1 starts one"
        return f"Celery Beat (pid {pids[0]}) beside the tick"

    def _login_lines(self) -> list[str]:
        if not self.credentials.username:
            return ["  Username   one of your own: the demo's user was deleted"]
        unknown = "not known here: it was changed (DOWNBEAT_ADMIN_PASSWORD=… make run sets another)"
        return [
            f"  Username   {self.credentials.username}",
            f"  Password   {self.credentials.password or unknown}",
            f"  Token      in {self.options.data_dir / CREDENTIALS}",
        ]

    def _leader_lines(self, leader: Leadership) -> list[str]:
        names = {child.pid: child.spec.name for child in self.supervisor.children}
        who = names.get(leader.pid, f"a process on {leader.host}")
        lines = [f"  Leader     {who}, pid {leader.pid}, term {leader.term} ({leader.name})"]
        if leader.is_here:
            lines.append(f"             try a failover: kill -9 {leader.pid}")
        return lines
