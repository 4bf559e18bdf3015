"""The `celery` dialect: the fields of `celery.schedules.crontab`, accepted and refused exactly as Celery does.

Celery itself is not needed here. What looks odd below is Celery's (read from 5.7): a name counts by its first three
letters and in any field (`mon` is 1 in the minute field too), a month before a weekday (`mar` is 3), and what follows
a complete range or step is ignored (`1-5/2-3` is `1-5/2`). A row that came from Beat keeps its meaning.
"""

from __future__ import annotations

import re
from functools import lru_cache

from scheduler.errors import InvalidInput
from scheduler.recurrence.fields import (
    FIELDS,
    MONTH_NAMES,
    WEEKDAY,
    WEEKDAY_NAMES,
    CronField,
    refuse,
    split,
)
from scheduler.recurrence.walltime import DayRule, WallPattern, build_pattern, mask_of

_RANGE = re.compile(r"(?P<first>\w+?)-(?P<last>\w+)(?P<slash>/)?(?P<step>(?<=/)\w+)?")
_STARS = re.compile(r"\*/(?P<step>\w+)?")
_NUMBERS = {name[:3]: number for number, name in enumerate(WEEKDAY_NAMES)} | {
    name[:3]: number for number, name in enumerate(MONTH_NAMES, 1)
}


def parse(folded: str) -> WallPattern:
    """What a folded expression names.

    Raises:
        InvalidInput: field `expression`, saying which field is wrong and what it may hold.
    """
    texts = split(folded)
    try:
        minutes, hours, month_days, months, weekdays = map(_parse_field, texts, range(5))
    except InvalidInput as error:
        raise refuse(error.expected, folded) from error
    days = DayRule(
        months=months,
        month_days=month_days,
        is_last_day_named=False,
        weekdays=weekdays,
        weekdays_of_month=frozenset(),
        is_both_required=True,
    )
    return build_pattern(texts=texts, minutes=minutes, hours=hours, days=days)


@lru_cache(maxsize=4096)
def _parse_field(text: str, position: int) -> int:
    cron_field = FIELDS[position]
    try:
        return mask_of(value for item in text.split(",") for value in _parse_item(item, cron_field))
    except ValueError as error:
        names = f" or names ({cron_field.names[0][:3]})" if cron_field.names else ""
        sunday = ", Sunday as 0" if cron_field is WEEKDAY else ""
        forms = f"numbers {cron_field.low}-{cron_field.high}{names}{sunday}, '*', ranges, and steps on '*' or a range"
        raise refuse(f"{cron_field.name} as Celery reads it: {forms}", text) from error


def _parse_item(item: str, cron_field: CronField) -> list[int]:
    """The values of one item of a list, in order. Raises ValueError where Celery raises anything."""
    if item == "*":
        return list(cron_field.values)
    if spans := _RANGE.match(item):
        values = _span(_number(spans["first"], cron_field), _number(spans["last"], cron_field), cron_field)
        return values[:: int(spans["step"] or "")] if spans["slash"] else values
    if stars := _STARS.match(item):
        return list(cron_field.values)[:: int(stars["step"] or "")]
    return [_number(item, cron_field)]


def _span(first: int, last: int, cron_field: CronField) -> list[int]:
    """`first` to `last`, round the end of the field where `last` is smaller."""
    if first <= last:
        return list(range(first, last + 1))
    return [*range(first, cron_field.high + 1), *range(cron_field.low, last + 1)]


def _number(text: str, cron_field: CronField) -> int:
    try:
        number = int(text)
    except ValueError:
        number = _NUMBERS.get(text[:3], -1)
    if number not in cron_field.values:
        raise ValueError(text)
    return number
