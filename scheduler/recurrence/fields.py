"""The five fields of a crontab: their ranges and names, and how an expression is cut into them."""

from __future__ import annotations

import re
from dataclasses import dataclass

from scheduler.errors import InvalidInput

LONGEST_EXPRESSION = 1000
"""Characters. The five columns of django-celery-beat hold 588 together."""

# fmt: off
MONTH_NAMES = (
    "january", "february", "march", "april", "may", "june",
    "july", "august", "september", "october", "november", "december",
)
WEEKDAY_NAMES = ("sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday")
# fmt: on

MACROS = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_SPACE = re.compile(r"\s+", re.ASCII)
_SPACE_AT_COMMA = re.compile(r"\s*,\s*", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class CronField:
    """One of the five positions."""

    name: str
    low: int
    high: int
    names: tuple[str, ...] = ()
    """Full names, the first of which stands for `low`."""

    @property
    def values(self) -> range:
        """Every value of the field."""
        return range(self.low, self.high + 1)


MINUTE = CronField(name="minute", low=0, high=59)
HOUR = CronField(name="hour", low=0, high=23)
MONTH_DAY = CronField(name="day-of-month", low=1, high=31)
MONTH = CronField(name="month", low=1, high=12, names=MONTH_NAMES)
WEEKDAY = CronField(name="day-of-week", low=0, high=6, names=WEEKDAY_NAMES)
FIELDS = (MINUTE, HOUR, MONTH_DAY, MONTH, WEEKDAY)


def fold(expression: object) -> str:
    """The expression in lower case, trimmed, with one space between fields and none beside a comma.

    Raises:
        InvalidInput: field `expression`, when it is no text, empty, or longer than `LONGEST_EXPRESSION`.
    """
    if not isinstance(expression, str) or not expression.strip():
        raise refuse("five fields, such as '30 2 * * *', or a macro, such as '@daily'", expression)
    if len(expression) > LONGEST_EXPRESSION:
        raise refuse(f"at most {LONGEST_EXPRESSION} characters", expression[:60] + "…")
    one_spaced = _SPACE.sub(" ", expression).strip(" ")
    return _SPACE_AT_COMMA.sub(",", one_spaced).lower()


def split(folded: str) -> list[str]:
    """The five fields of a folded expression, its macro resolved.

    Raises:
        InvalidInput: field `expression`, for another number of fields or an unknown macro.
    """
    if folded.startswith("@"):
        return _resolve(folded).split()
    parts = folded.split(" ")
    if len(parts) in (6, 7):
        raise refuse("five fields (minute hour day-of-month month day-of-week), no seconds and no years", folded)
    if len(parts) != 5:
        raise refuse(f"five fields (minute hour day-of-month month day-of-week), not {len(parts)}", folded)
    return parts


def refuse(expected: str, got: object) -> InvalidInput:
    """The error of a bad expression, for the caller to raise."""
    return InvalidInput(field="expression", expected=expected, got=got)


def _resolve(macro: str) -> str:
    if macro == "@reboot":
        raise refuse("a macro that names a time (@reboot names none; schedules outlive reboots)", macro)
    if macro not in MACROS:
        raise refuse(f"one of the macros {', '.join(MACROS)}", macro)
    return MACROS[macro]
