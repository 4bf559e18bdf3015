"""What is measured side by side."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """One queue in one way of running it."""

    name: str
    """As the table says it."""
    driver: str
    """The file in `drivers/` that speaks for it."""
    requirements: tuple[str, ...] = ()
    """What pip installs into an environment of its own; none: it runs in the project's."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """For driver and worker."""
    needs_redis: bool = False
    idle_gap_seconds: float = 0.05
    """Longer than it polls, where it polls: else a message finds the worker awake."""

    @property
    def is_ours(self) -> bool:
        """Whether its tables are the project's."""
        return not self.requirements


def _ours(name: str, task: str, worker: str) -> System:
    return System(name=name, driver="downbeat_driver", environment={"BENCH_TASK": task, "BENCH_WORKER": worker})


def _celery(name: str, broker: str, **environment: str) -> System:
    return System(
        name=name,
        driver="celery_driver",
        environment={"BENCH_BROKER": broker, **environment},
        needs_redis="redis" in {broker, *environment.values()},
    )


SYSTEMS = (
    _ours("ours, 1 process, results kept", "bench.noop", "--pool process --concurrency 1"),
    _ours("ours, 1 process, nothing kept", "bench.forgotten", "--pool process --concurrency 1"),
    _ours("ours, 4 threads, results kept", "bench.noop", "--pool thread --concurrency 4"),
    _ours("ours, asyncio, results kept", "bench.async_noop", "--pool asyncio --concurrency 100"),
    _celery("celery worker on ours, no results", "downbeat://"),
    _celery("celery worker on ours, acks late, no results", "downbeat://", BENCH_ACKS_LATE="1"),
    _celery("celery worker on ours, results in ours", "downbeat://", BENCH_BACKEND="downbeat://"),
    _celery("celery worker on Redis, no results", "redis"),
    _celery("celery worker on Redis, acks late, no results", "redis", BENCH_ACKS_LATE="1"),
    _celery("celery worker on Redis, results in Redis", "redis", BENCH_BACKEND="redis"),
    System(
        name="PgQueuer",
        driver="pgqueuer_driver",
        requirements=("pgqueuer", "asyncpg", "uvloop", "psycopg[binary]"),
    ),
    System(name="Chancy", driver="chancy_driver", requirements=("chancy", "psycopg[binary,pool]")),
    System(name="Procrastinate", driver="procrastinate_driver", requirements=("procrastinate", "psycopg[binary,pool]")),
    System(
        name="django-tasks-db",
        driver="django_tasks_db_driver",
        requirements=("django-tasks-db", "django-tasks", "django<6", "psycopg[binary]"),
        idle_gap_seconds=1.05,
    ),
)
