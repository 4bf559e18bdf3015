"""How long an execution may take: a soft limit, at which it is asked to end, and a hard one, at which it is ended."""

from __future__ import annotations

from dataclasses import dataclass

from pg_queue.domain import Message
from pg_queue.errors import SoftTimeLimitExceeded, UnknownTask
from pg_queue.settings import QueueSettings
from pg_queue.tasks import TaskInfo, get_task


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Of one task, in seconds since its execution began; None: there is none."""

    soft: float | None
    hard: float | None

    @property
    def any(self) -> float | None:
        """One of them, to name in an error."""
        return self.hard if self.soft is None else self.soft


def limits_of(info: TaskInfo, conf: QueueSettings) -> Limits:
    """The task's own limits, else the settings'."""
    return _limits(info.time_limit_seconds, info.soft_time_limit_seconds, conf)


def limits_for(message: Message, conf: QueueSettings) -> Limits:
    """Those that the message brings, else its task's own, else the settings'."""
    info = _info(message.task)
    hard, soft = (None, None) if info is None else info.limits_of(message)
    return _limits(hard, soft, conf)


def _limits(hard: float | None, soft: float | None, conf: QueueSettings) -> Limits:
    """A soft limit that is not below the hard one would come too late: there is none then."""
    hard = conf.task_time_limit_seconds if hard is None else hard
    soft = conf.task_soft_time_limit_seconds if soft is None else soft
    return Limits(soft=None if soft is not None and hard is not None and soft >= hard else soft, hard=hard)


def soft_limit_error(name: str) -> type[Exception]:
    """What the task with this name expects to be raised in it at its soft limit."""
    info = _info(name)
    return SoftTimeLimitExceeded if info is None else info.soft_time_limit_error


def _info(name: str) -> TaskInfo | None:
    try:
        return get_task(name)
    except UnknownTask:
        return None
