"""Which Beats live, and so how a hand-over finds out what they have sent."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from django.db import connections

from scheduler.beat import trigger
from scheduler.beat.trigger import GuardState
from scheduler.domain import BeatMode, HandoverMethod
from scheduler.errors import HandoverRefused
from scheduler.models import BeatProcess
from scheduler.settings import scheduler_settings
from scheduler.statements import statements


@dataclass(frozen=True, slots=True, kw_only=True)
class Beats:
    """What there is of Beat."""

    live: tuple[BeatProcess, ...]
    method: HandoverMethod
    process_id: UUID | None
    """Whose sends count: the live Beat's; where none lives, that of the last, if it was killed. None: no one's."""


def look_around(*, is_beat_stopped: bool = False) -> Beats:
    """The method that fits the Beats that live. `is_beat_stopped`: somebody says that none does.

    Raises:
        HandoverRefused: none lives (and nobody says that none should), several do that do not all claim, one lives that
            was said not to, or Beat's rows are not guarded. The message says what to do.
    """
    _require_guard()
    live = tuple(BeatProcess.objects.using(_alias()).live())
    if is_beat_stopped:
        return _stopped(live)
    if not live:
        raise HandoverRefused(
            "Celery Beat: expected one live process that has 'scheduler' in its INSTALLED_APPS, found none; start it, "
            "or, if Celery Beat is stopped for good, say so (--beat-stopped)"
        )
    if all(process.mode == BeatMode.GATE for process in live):
        return Beats(live=live, method=HandoverMethod.CLAIM, process_id=None)
    if len(live) > 1:
        raise HandoverRefused(
            f"Celery Beat: expected one live process, found {len(live)}: {_name(live)}. Each fires everything: stop "
            "all but one (one that was killed counts for 10 s)"
        )
    return Beats(live=live, method=HandoverMethod.CANARY, process_id=live[0].pk)


def _stopped(live: tuple[BeatProcess, ...]) -> Beats:
    if live:
        raise HandoverRefused(
            f"--beat-stopped: expected that no Celery Beat lives, found {_name(live)}; stop it (one that was killed "
            "counts for 10 s), or leave the option out"
        )
    with connections[_alias()].cursor() as cursor:
        cursor.execute(statements("cutover")["last_killed"])
        found = cursor.fetchone()
    return Beats(live=(), method=HandoverMethod.STOPPED, process_id=found and found[0])


def _require_guard() -> None:
    state = trigger.find_tables(_alias()).state
    if state is not GuardState.ARMED:
        hint = "`manage.py migrate` puts it there" if state is GuardState.MISSING else "`manage.py tripwire restore`"
        raise HandoverRefused(f"tripwire: expected it to guard Celery Beat's rows, found it {state.value}; {hint}")


def _name(live: tuple[BeatProcess, ...]) -> str:
    return ", ".join(f"{process} ({process.mode})" for process in live)


def _alias() -> str:
    return scheduler_settings().database
