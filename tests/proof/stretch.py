"""A stretch of time in which PG owned a schedule: each of its occurrences has a row in the ledger, one after the other.

It begins with a hand-over to PG and ends with the instant from which on Beat has it again. Where the first occurrence
lies follows from what Beat sent last: the walk starts there, goes from row to row, and names what lies between. Beat
counts an interval from its own sends, so that one's occurrences follow from the row before and from nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from tests.proof.evidence import Change, Evidence, Handover, Run, Schedule, Send
from tests.proof.rhythm import Rhythm

_TICK = timedelta(microseconds=1)
LATE = timedelta(seconds=15)
"""What Beat was never seen to send is PG's from so long before the hand-over on; before that nobody's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """What there is of one schedule."""

    schedule: Schedule
    runs: Sequence[Run]
    sends: Sequence[Send]
    """Those that have an occurrence."""
    handovers: Sequence[Handover]
    changes: Sequence[Change]

    def rhythm_at(self, at: datetime) -> Rhythm:
        """Its rhythm then."""
        expression = self.schedule.expression
        for change in self.changes:
            if change.expressions and change.at <= at:
                expression = change.expressions[1]
        return Rhythm(self.schedule.kind, expression)

    def is_changed(self, since: datetime, until: datetime) -> bool:
        """Whether somebody changed when it occurs, paused or resumed it in between."""
        return any(since <= one.at <= until and (one.expressions or one.is_switch) for one in self.changes)

    def is_enabled_at(self, at: datetime) -> bool:
        """Whether it was not paused then."""
        switches = [change for change in self.changes if change.is_switch]
        later = [change for change in switches if change.at > at]
        return bool(later[0].fields["enabled"][0] if later else self.schedule.is_enabled)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """From when until when PG owned it."""

    begins_at: datetime
    arrived_at: datetime
    ends_at: datetime
    previous_end: datetime
    is_last: bool
    """Whether PG has it still."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Break:
    """Where the ledger does not follow the rhythm."""

    what: str
    """`missed`: nothing is there; `unexpected`: a row is where no occurrence is."""
    at: datetime
    occurrences: int
    told: str


def histories(evidence: Evidence) -> Iterator[History]:
    """One for each schedule."""
    for schedule in evidence.schedules:
        yield History(
            schedule=schedule,
            runs=[run for run in evidence.runs if run.schedule_id == schedule.id],
            sends=[
                send for send in evidence.sends if send.schedule_id == schedule.id and send.scheduled_for is not None
            ],
            handovers=[one for one in evidence.handovers if one.schedule_id == schedule.id],
            changes=[one for one in evidence.changes if one.schedule_id == schedule.id],
        )


def stretches(history: History, until: datetime) -> list[Stretch]:
    """The stretches of a schedule up to `until`. A hand-over that was taken back makes none: PG fired nothing."""
    found: list[Stretch] = []
    arrived: Handover | None = None
    previous_end = history.schedule.created_at
    for one in sorted(history.handovers, key=lambda one: one.requested_at):
        if one.to_firer == "pg" and one.state == "done":
            arrived = one
        elif one.to_firer == "beat" and arrived is not None and one.beat_from is not None:
            found.append(_stretch(arrived, min(one.beat_from, until), previous_end, is_last=False))
            arrived, previous_end = None, one.beat_from
    if arrived is not None:
        found.append(_stretch(arrived, until, previous_end, is_last=True))
    return found


def _stretch(arrived: Handover, ends_at: datetime, previous_end: datetime, *, is_last: bool) -> Stretch:
    assert arrived.ended_at is not None
    return Stretch(
        begins_at=arrived.requested_at,
        arrived_at=arrived.ended_at,
        ends_at=ends_at,
        previous_end=previous_end,
        is_last=is_last,
    )


class Walk:
    """From one row to the next."""

    def __init__(self, history: History, stretch: Stretch) -> None:
        """Walk through the stretch."""
        self._history = history
        self._stretch = stretch
        self._anchor_at, self._position = self._start()
        self._other_position = self._start_of_late_send()
        changes = [one for one in history.changes if one.expressions or one.is_switch]
        self._changes = [one for one in changes if one.at > self._anchor_at]
        self.breaks = list(self._run())
        """Where the ledger does not follow the rhythm."""
        self.following = self._position
        """The first occurrence after the stretch."""

    def _run(self) -> Iterator[Break]:
        for run in self._rows():
            yield from self._change_until(run.scheduled_for)
            if run.scheduled_for == self._other_position:
                self._position = run.scheduled_for
            if run.scheduled_for > self._position:
                told = f"before a {run.state} row of {run.scheduled_for:%H:%M:%S.%f}"
                yield from self._missed(run.scheduled_for, told)
            elif run.scheduled_for < self._position:
                told = f"a {run.state} row, the next occurrence is {self._position}"
                yield Break(what="unexpected", at=run.scheduled_for, occurrences=1, told=told)
            self._position = self._history.rhythm_at(run.last).after(run.last)
        yield from self._change_until(self._stretch.ends_at)
        if self._history.is_enabled_at(self._stretch.ends_at) and self._position <= self._stretch.ends_at:
            yield from self._missed(self._stretch.ends_at + _TICK, "at the end")

    def _rows(self) -> list[Run]:
        """PG's, and what Beat left out after its last send, because it was paused."""
        return [
            run
            for run in self._history.runs
            if self._stretch.previous_end < run.scheduled_for <= self._stretch.ends_at
            and (run.firer == "pg" or (not run.is_fired and run.scheduled_for > self._anchor_at))
        ]

    def _start(self) -> tuple[datetime, datetime]:
        """From which instant on changes count, and where the first occurrence lies but for them."""
        anchors = [(send.scheduled_for, send.sent_at) for send in self._sends()]
        anchors += [
            (run.last, run.last)
            for run in self._history.runs
            if run.scheduled_for <= self._stretch.previous_end and (run.firer == "pg" or not run.is_fired)
        ]
        self._is_unknown_to_beat = not anchors
        if anchors:
            anchor_at = max(anchors)[1]
            return anchor_at, self._history.rhythm_at(anchor_at).after(anchor_at)
        since = self._history.schedule.created_at
        edits = [one.at for one in self._history.changes if one.expressions and one.at < self._stretch.begins_at]
        since = max([since, *edits])
        return since, self._history.rhythm_at(since).after(since)

    def _owed_since(self) -> datetime:
        """From when on PG owes: where Beat never sent it, or it is edited before Beat has stopped, not all the rest."""
        if self._history.is_changed(self._stretch.begins_at, self._stretch.arrived_at):
            return self._stretch.begins_at
        return self._stretch.begins_at - LATE if self._is_unknown_to_beat else self._anchor_at

    def _start_of_late_send(self) -> datetime:
        """The same where the send was under way when the schedule was paused.

        Whether the pause knew of that send is chance, so the rhythm goes on from it or from what it was sent for.
        """
        late = [send for send in self._sends() if send.sent_at == self._anchor_at]
        if not late or late[0].scheduled_for is None or self._history.is_enabled_at(self._anchor_at):
            return self._position
        return self._history.rhythm_at(self._anchor_at).after(late[0].scheduled_for)

    def _sends(self) -> list[Send]:
        return [
            send
            for send in self._history.sends
            if send.state in {"sent", "claimed"} and send.sent_at <= self._stretch.arrived_at
        ]

    def _change_until(self, until: datetime) -> Iterator[Break]:
        """Edits begin the rhythm anew. While Beat owns it, a pause or a resume moves to the next occurrence."""
        while self._changes and self._changes[0].at < until:
            change = self._changes.pop(0)
            rhythm = self._history.rhythm_at(change.at)
            if change.at < self._stretch.begins_at:
                self._position = _moved(rhythm, self._position, change)
                self._other_position = _moved(rhythm, self._other_position, change)
            elif change.expressions:
                if self._position <= change.at:
                    yield from self._missed(change.at, "before an edit")
                self._position = rhythm.after(change.at)

    def _missed(self, until: datetime, told: str) -> Iterator[Break]:
        """From where it stands, but for what Beat owed before and nobody has to make up for."""
        rhythm = self._history.rhythm_at(self._position)
        since = rhythm.ahead(self._position, self._owed_since() - _TICK)
        if occurrences := rhythm.count(since, until):
            yield Break(what="missed", at=since, occurrences=occurrences, told=told)


def _moved(rhythm: Rhythm, position: datetime, change: Change) -> datetime:
    return rhythm.after(change.at) if change.expressions else rhythm.ahead(position, change.at)
