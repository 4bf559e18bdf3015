"""What is to become of due crontab schedules: computed once per distinct cadence and due instant. Pure."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from scheduler.domain import MOST_COUNTED, CronDialect, ScheduleKind
from scheduler.errors import InvalidInput
from scheduler.recurrence import Cadence, count_between, evaluate

logger = logging.getLogger(__name__)

_TICK = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Question:
    """What decides a verdict: schedules that agree in all of it are decided together."""

    kind: str
    """Any but `interval`, whose occurrences the tick computes by itself."""
    cron_string: str
    timezone: str
    dialect: str
    due_at: datetime
    """The first occurrence not yet decided."""
    base: datetime
    """The instant of the tick, or the last one at which the schedule may occur, where that is earlier."""
    since: datetime | None = None
    """Every missed occurrence from here on is to be fired, the first of them now; None: only the latest is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The answer. Where `error` is set nothing else is."""

    latest: datetime | None = None
    """The occurrence to fire, if it is not too late for it."""
    before: datetime | None = None
    """The last occurrence that is passed over for `latest`; None: none is."""
    next: datetime | None = None
    """The first occurrence after `base`, or after `latest` where each is to be fired; None: there is none."""
    missed: int | None = 0
    """How many occurrences are passed over for `latest`."""
    error: str | None = None
    """Why it cannot be evaluated."""


class Verdicts:
    """Answers, remembered for the duration of a pass."""

    def __init__(self) -> None:
        self._known: dict[Question, Verdict] = {}

    def on(self, questions: Iterable[Question]) -> dict[str, list[Any]]:
        """Questions and their verdicts as columns, one list each, for `unnest`."""
        asked = list(questions)
        verdicts = [self.learn(question) for question in asked]
        return {
            **{f"{name}s": [getattr(question, name) for question in asked] for name in Question.__slots__},
            **{f"{name}s": [getattr(verdict, name) for verdict in verdicts] for name in Verdict.__slots__},
        }

    def learn(self, question: Question) -> Verdict:
        """The verdict on one question. May take milliseconds the first time."""
        if question not in self._known:
            self._known[question] = judge(question)
        return self._known[question]


def judge(question: Question) -> Verdict:
    """Decide one question. Never raises: what goes wrong becomes the verdict's error."""
    try:
        return _judge(question)
    except InvalidInput as error:
        return Verdict(error=str(error))
    except Exception as error:  # one row's surprise must not stop the others
        logger.exception("tick.evaluation_failed cron_string=%r timezone=%r", question.cron_string, question.timezone)
        return Verdict(error=f"{type(error).__name__}: {error}")


def _judge(question: Question) -> Verdict:
    cadence = Cadence(
        ScheduleKind(question.kind), question.cron_string, question.timezone, CronDialect(question.dialect)
    )
    latest, following = _chosen(cadence, question)
    if latest == question.due_at:
        return Verdict(latest=latest, next=following)
    missed = count_between(cadence, question.due_at, latest, MOST_COUNTED)
    before = evaluate(cadence, latest - _TICK).latest or question.due_at
    return Verdict(
        latest=latest,
        before=max(question.due_at, before),
        next=following,
        missed=missed if missed is None else max(1, missed),
    )


def _chosen(cadence: Cadence, question: Question) -> tuple[datetime, datetime | None]:
    """The occurrence to decide on, and the one after it. One off the cadence's own grid (set by hand, or by older rules
    of a zone) counts as an occurrence where it is the due one."""
    around = evaluate(cadence, question.base)
    latest = max(question.due_at, around.latest or question.due_at)
    if question.since is None or latest < question.since:
        return latest, around.next
    if question.since == question.due_at:
        return question.due_at, evaluate(cadence, question.due_at).next
    first = evaluate(cadence, question.since - _TICK).next or latest
    return first, evaluate(cadence, first).next
