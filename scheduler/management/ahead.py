"""What lies ahead, as lines of text for the commands."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pg_queue.api import text_table as table

_SIDES = ("pg", "beat", "rule")
_BUSIEST = ("at", "fires", "starts", "crontabs")


def preview_text(shown: Mapping[str, Any]) -> str:
    """A preview as tables, one for what comes next and one for each clock change, and why the sides differ."""
    lines = [table(_SIDES, shown["results"])] if shown["results"] else ["Nothing is ahead of it."]
    for change in shown["clock_changes"]:
        told = f"{change['at']} the clock of {shown['timezone']} changes from {change['offset_before']} to "
        lines += ["", f"{told}{change['offset_after']}", table(_SIDES, change["results"])]
        if change["left_out"]:
            lines.append(f"and {change['left_out']} more around it")
    rows = [row for part in [shown, *shown["clock_changes"]] for row in part["results"]]
    reasons = {row["rule"] or "unexplained": row["reason"] for row in rows if row["differs"]}
    lines += ["", *(f"{rule}: {reason}" for rule, reason in reasons.items())] if reasons else []
    lines += [shown["note"]] if shown["note"] else []
    return "\n".join([*lines, *(["", shown["herd"]["warning"]] if shown["herd"] else [])])


def forecast_text(made: Mapping[str, Any]) -> str:
    """How many are fired in all, the busiest minutes, and what was left out."""
    fires, starts = sum(made["fires"]), sum(made["starts"])
    lines = [
        f"{made['schedules']} schedules are fired {fires} times from {made['since']} to {made['until']}; {starts} of "
        f"their runs begin by then. {made['cadences']} cadences took {made['seconds']:.2f} s."
    ]
    if made["busiest"]:
        rows = [{**minute, "crontabs": ", ".join(map(_named, minute["largest"]))} for minute in made["busiest"]]
        lines += ["", table(_BUSIEST, rows)]
    if made["left_out"]:
        lines += ["", f"{made['left_out']} schedules are left out: too many different ones, or rows that mean nothing."]
    return "\n".join(lines)


def _named(one: Mapping[str, Any]) -> str:
    return f"{one['schedules']} × {one['expression']} {one['timezone']}"
