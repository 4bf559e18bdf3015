"""Whether anything was missed or done twice among what PG owned and across every hand-over. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from tests.proof import beats
from tests.proof.evidence import Evidence, Run, Schedule, Send
from tests.proof.stretch import History, Stretch, Walk, histories, stretches

EARLY = timedelta(milliseconds=50)
"""How much before its occurrence a send of Beat's may come and not be early."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """One thing that may not be."""

    schedule_id: UUID
    at: datetime
    told: str = ""

    def __str__(self) -> str:
        return f"{self.schedule_id} at {self.at:%H:%M:%S.%f} {self.told}".rstrip()


@dataclass(slots=True)
class Judgement:
    """What was found."""

    counts: Counter[str] = field(default_factory=Counter)
    violations: defaultdict[str, list[Violation]] = field(default_factory=lambda: defaultdict(list))
    """By rule; one for each occurrence."""
    faults: Counter[str] = field(default_factory=Counter)
    """What Beat did by itself, by name."""
    unknown: list[str] = field(default_factory=list)
    """Occurrences that a Beat which is gone may have sent or not."""

    @property
    def is_clean(self) -> bool:
        """Whether nothing was violated."""
        return not any(self.violations.values())


def judge(evidence: Evidence) -> Judgement:
    """Look at all of it."""
    found = Judgement()
    _judge_ledger(evidence, found)
    _judge_executions(evidence, found)
    _judge_end(evidence, found)
    _count(evidence, found)
    return found


def _judge_ledger(evidence: Evidence, found: Judgement) -> None:
    runs = {(run.schedule_id, run.scheduled_for): run for run in evidence.runs}
    pace = beats.Pace(evidence)
    for history in histories(evidence):
        owned = stretches(history, evidence.until)
        for stretch in owned:
            walk = Walk(history, stretch)
            for one in walk.breaks:
                violation = Violation(schedule_id=history.schedule.id, at=one.at, told=one.told)
                found.violations[one.what] += [violation] * one.occurrences
            found.violations["sent while PG's"] += _trespasses(history, stretch)
            _judge_return(beats.back(history, owned, walk.following, stretch), pace, found)
        found.violations["sent, and fired by PG"] += [
            _of_send(send)
            for send in history.sends
            if send.state == "sent" and _is_pgs(runs.get((history.schedule.id, send.scheduled_for)))
        ]
        found.faults += beats.faults(history, owned, evidence.faults)


def _judge_return(back: beats.Return | None, pace: beats.Pace, found: Judgement) -> None:
    """Beat begins with the occurrence that follows PG's last: not before it is due, and with no other."""
    if back is None:
        return
    schedule_id = back.schedule_id
    if back.began_at < back.due_at - EARLY:
        told = f"due at {back.due_at}"
        found.violations["sent early after a roll-back"].append(
            Violation(schedule_id=schedule_id, at=back.began_at, told=told)
        )
    elif back.lost and (why := pace.why_late(back)):
        found.faults[f"not sent after a roll-back, {why}"] += back.lost
    elif back.lost:
        violation = Violation(schedule_id=schedule_id, at=back.due_at, told=f"Beat begins at {back.began_at}")
        found.violations["missed"] += [violation] * back.lost


def _is_pgs(run: Run | None) -> bool:
    return run is not None and run.is_fired and run.firer == "pg"


def _of_send(send: Send, told: str = "") -> Violation:
    assert send.schedule_id is not None
    return Violation(schedule_id=send.schedule_id, at=send.sent_at, told=f"for {send.scheduled_for} {told}")


def _of_run(run: Run) -> Violation:
    return Violation(schedule_id=run.schedule_id, at=run.scheduled_for)


def _trespasses(history: History, stretch: Stretch) -> Iterator[Violation]:
    """Sends of Beat's after it was known what it had sent, and before it had the schedule again."""
    for send in history.sends:
        if send.state == "sent" and stretch.arrived_at < send.sent_at <= stretch.ends_at:
            yield _of_send(send, f"PG's since {stretch.arrived_at}")


def _judge_executions(evidence: Evidence, found: Judgement) -> None:
    executed = Counter((one.firer, one.message_id) for one in evidence.executions)
    for run in evidence.runs:
        if run.firer != "pg" or not run.is_fired:
            continue
        times = executed["pg", str(run.id)]
        if times == 0:
            found.violations["fired and not executed"].append(_of_run(run))
        elif times > 1 and evidence.worker_kills == 0:
            found.violations["executed twice"].append(_of_run(run))
        found.counts["executed again after a worker was killed"] += max(0, times - 1)
    sends = {send.message_id: send for send in evidence.sends if send.schedule_id is not None}
    for message_id, send in sends.items():
        times = executed["beat", message_id]
        if send.state == "sent" and times != 1:
            found.violations["sent and not executed once"].append(_of_send(send, f"{times} times"))
    _judge_unrecorded(evidence, sends, found)


def _judge_unrecorded(evidence: Evidence, sends: dict[str, Send], found: Judgement) -> None:
    """Executions of which the journal says nothing, or not whether they were sent."""
    by_id = {history.schedule.id: history for history in histories(evidence)}
    for one in evidence.executions:
        send = sends.get(one.message_id)
        if one.published_at is None or (send is not None and send.state == "sent"):
            continue
        if send is not None and send.state == "refused":
            found.violations["refused and executed"].append(_of_send(send))
        elif send is not None:
            found.faults["sent by a Beat that was killed before it said so"] += 1
        elif one.published_at <= evidence.until:
            found.faults["sent by a Beat that was killed before it recorded it"] += 1
            doubled = _fired_too(by_id[UUID(one.beat_name)], one.published_at)
            found.violations["executed for Beat, and fired by PG"] += map(_of_run, doubled)


def _fired_too(history: History, published_at: datetime) -> list[Run]:
    """What PG fired of an occurrence that Beat sent then, too; nothing where that one is listed as unknown."""
    fired = [run for run in history.runs if _is_pgs(run) and run.scheduled_for <= published_at + EARLY]
    last = fired[-1:]
    if not last or history.rhythm_at(last[0].last).after(last[0].last) <= published_at + EARLY:
        return []
    claims = [send.scheduled_for for send in history.sends if send.state == "claimed"]
    return [] if any(last[0].last - EARLY <= claim <= published_at + EARLY for claim in claims if claim) else last


def _judge_end(evidence: Evidence, found: Judgement) -> None:
    """In the end every schedule is one's or the other's, by all that is stored of it."""
    for schedule in evidence.schedules:
        found.violations["left inconsistent"] += [
            Violation(schedule_id=schedule.id, at=evidence.until, told=told) for told in _inconsistencies(schedule)
        ]
    for one in evidence.handovers:
        told = f"to {one.to_firer}, {one.reason}"
        violation = Violation(schedule_id=one.schedule_id, at=one.requested_at, told=told)
        if one.state == "waiting":
            found.violations["left waiting"].append(violation)
        if one.reason.startswith("by itself"):
            found.violations["handed back by itself"].append(violation)
    left = Violation(schedule_id=UUID(int=0), at=evidence.until, told="in Beat's table")
    found.violations["canaries left"] += [left] * evidence.canaries


def _inconsistencies(schedule: Schedule) -> Iterable[str]:
    is_beats = schedule.firer == "beat"
    if schedule.hold is not None or schedule.beat_from is not None:
        yield f"hold {schedule.hold}, beat_from {schedule.beat_from}"
    if schedule.is_enabled_in_beat != (is_beats and schedule.is_enabled):
        yield f"fired by {schedule.firer}, enabled {schedule.is_enabled}, in Beat {schedule.is_enabled_in_beat}"


def _count(evidence: Evidence, found: Judgement) -> None:
    for run in evidence.runs:
        if run.is_fired:
            found.counts[f"occurrences fired by {run.firer}"] += 1
        else:
            name = f"left out by {run.firer}: {run.state} {run.reason}".strip()
            found.counts[name] += run.occurrences or 1
    for one in evidence.handovers:
        found.counts[f"hand-overs to {one.to_firer} by {one.method}, {one.state}"] += 1
    for execution in evidence.executions:
        found.counts[f"executions by {execution.firer}'s worker"] += 1
    runs = {(run.schedule_id, run.scheduled_for): run for run in evidence.runs}
    for send in evidence.sends:
        if send.state == "claimed" and not send.is_of_the_living:
            found.unknown.append(f"{send.schedule_id} {send.scheduled_for}")
        elif send.state == "refused":
            found.counts["sends refused by the gate"] += 1
        elif send.state == "sent" and not send.is_first and send.schedule_id is not None:
            run = runs.get((send.schedule_id, send.scheduled_for)) if send.scheduled_for else None
            if not _is_pgs(run):
                found.faults["sent twice"] += 1
