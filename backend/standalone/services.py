"""What `make run` runs beside the database. `docker-compose.yml` runs the same commands, each in a container."""

from __future__ import annotations

import sys
from dataclasses import dataclass

from backend.standalone.children import MANAGE, ChildSpec
from backend.standalone.ports import LOOPBACK

GUNICORN = (sys.executable, "-m", "gunicorn", "backend.wsgi:application")
# Longer than PG_QUEUE["DRAIN_SECONDS"], after which the worker itself ends what still runs.
WORKER_DRAIN_SECONDS = 40.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """Loopback ports of one start."""

    web: int
    schedulers: tuple[int, ...]
    """Health and metrics of each scheduler; one scheduler per port."""
    worker: int
    """Health and metrics of the worker."""


def service_specs(ports: Ports) -> list[ChildSpec]:
    """Web, the schedulers and the worker, in the order in which they are started."""
    web = ChildSpec(
        name="web",
        argv=(*GUNICORN, f"--bind={LOOPBACK}:{ports.web}", "--workers=2", "--threads=4", "--no-control-socket"),
    )
    schedulers = [
        ChildSpec(name=f"sched-{number}", argv=(*MANAGE, "run_scheduler", f"--health-port={port}"))
        for number, port in enumerate(ports.schedulers, start=1)
    ]
    worker = ChildSpec(
        name="worker",
        argv=(*MANAGE, "run_worker", "--queues=default", "--concurrency=4", f"--health-port={ports.worker}"),
        stop_seconds=WORKER_DRAIN_SECONDS,
    )
    return [*schedulers, worker, web]
