"""What `make run` runs beside the database. `docker-compose.yml` runs the same, each in a container, without Celery."""

from __future__ import annotations

import sys
from dataclasses import dataclass

from backend.standalone.children import MANAGE, ChildSpec
from backend.standalone.ports import LOOPBACK
from backend.standalone.preparation import Options

CELERY = ("-m", "celery", "--app=backend", "--quiet")
# Root may run the demo, and need not be told so at each start.
NO_ROOT_WARNING = ("-W", "ignore:You're running the worker with superuser privileges")
GUNICORN = (sys.executable, "-m", "gunicorn", "backend.wsgi:application")
# Longer than PG_QUEUE["DRAIN_SECONDS"], after which the worker itself ends what still runs.
WORKER_DRAIN_SECONDS = 40.0
# It has nothing to drain, and on psycopg 3 stock Beat hangs where the signal comes in the middle of a query.
BEAT_STOP_SECONDS = 5.0
BEAT = "beat"
"""The name of Celery Beat's process."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """Loopback ports of one start."""

    web: int
    schedulers: tuple[int, ...]
    """Health and metrics of each scheduler; one scheduler per port."""
    worker: int
    """Health and metrics of the worker."""


def service_specs(options: Options, ports: Ports) -> list[ChildSpec]:
    """Web, the schedulers, the worker, and Celery's processes if there is a Beat, in the order of their start."""
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
    return [*schedulers, worker, web, *(_celery() if options.has_beat else ())]


def _celery() -> list[ChildSpec]:
    """A stock Celery Beat, and one Celery worker for what it sends."""
    return [
        ChildSpec(
            name=BEAT,
            argv=(sys.executable, *CELERY, "beat", "--scheduler=django_celery_beat.schedulers:DatabaseScheduler"),
            stop_seconds=BEAT_STOP_SECONDS,
        ),
        ChildSpec(
            name="celery",
            argv=(
                sys.executable, *NO_ROOT_WARNING, *CELERY, "worker", "--pool=solo", "--queues=default,celery",
                "--loglevel=WARNING", "--without-gossip", "--without-mingle", "--without-heartbeat",
                "worker_enable_remote_control=0",
            ),
        ),
    ]  # fmt: skip
