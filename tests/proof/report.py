"""The counts, as text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from tests.proof import story
from tests.proof.evidence import Evidence
from tests.proof.judge import Judgement
from tests.proof.performance import Performance

SHOWN = 10
"""Of each rule; the first with its story."""


def lines(performance: Performance, judgement: Judgement) -> Iterator[str]:
    """One section after the other."""
    size = f"{performance.seconds:.0f} s, {performance.schedules} schedules"
    yield f"{performance.phase}: seed {performance.seed}, {size}"
    yield from _section("done to it", performance.harm)
    yield from _section("asked for", performance.actions)
    yield from _section("answers", performance.answers)
    yield from _section("refused, because", performance.refusals)
    yield from _section("counted", judgement.counts)
    yield from _section("Beat's own faults", judgement.faults)
    yield f"  unknown: {len(judgement.unknown)}"
    yield from (f"    {one}" for one in judgement.unknown)
    yield from _verdict(performance.evidence, judgement)


def _section(title: str, counts: Mapping[str, int]) -> Iterator[str]:
    yield f"  {title}"
    yield from (f"    {count:>7,}  {name}" for name, count in sorted(counts.items()) if count)


def _verdict(evidence: Evidence, judgement: Judgement) -> Iterator[str]:
    missed = len(judgement.violations["missed"])
    doubled = sum(len(judgement.violations[rule]) for rule in DOUBLED)
    yield f"  missed: {missed}, doubled: {doubled}"
    for rule, told in sorted(judgement.violations.items()):
        if told:
            yield f"  VIOLATED: {rule}: {len(told)}"
            yield from (f"    {one}" for one in list(dict.fromkeys(told))[:SHOWN])
            yield from (f"      {line}" for line in story.lines(evidence, told[0].schedule_id, told[0].at))


DOUBLED = (
    "sent, and fired by PG",
    "sent while PG's",
    "executed for Beat, and fired by PG",
    "executed twice",
    "refused and executed",
)
"""The rules that say that something was done twice."""
