"""The `unix` dialect: ISC cron's fields as croniter parses them.

Two things are done before croniter sees a field. Names become numbers, full ones too, which croniter refuses. A range
of one value (`9-9`) becomes that value: croniter 7 reads it as the whole field, cron(5) does not.

What croniter has beyond five plain fields is refused by name (hashed and random values, the nearest weekday), except
`L` and `#`: the last day of the month, the last Friday (`L5`), the second Tuesday (`2#2`).
"""

from __future__ import annotations

import re

from croniter import CroniterError, croniter

from scheduler.recurrence.fields import FIELDS, MONTH_DAY, WEEKDAY, CronField, refuse, split
from scheduler.recurrence.walltime import LAST_WEEK, DayRule, WallPattern, WeekdayOfMonth, mask_of

_VALUE = r"(?:[0-9]+|[a-z]+)"
_PLAIN = rf"(?:\*|{_VALUE}(?:-{_VALUE})?)(?:/[0-9]+)?"
_NTH = rf"{_VALUE}#[0-9]|l[0-9]"
_ITEM = re.compile(_PLAIN)
_MONTH_DAY_ITEM = re.compile(rf"{_PLAIN}|\?|l|[0-9]+-l")
_WEEKDAY_ITEM = re.compile(rf"{_PLAIN}|\?|{_NTH}")
_NTH_ITEM = re.compile(_NTH)
_EQUAL_RANGE = re.compile(r"([0-9]+)-\1(?:/[0-9]+)?")
_WORD = re.compile(r"[a-z]+")
_HASHED = re.compile(r"[hr](?![a-z])")
_NEAREST_WEEKDAY = re.compile(r"[0-9]+w|w[0-9]+")
_FORMS = "numbers {low}-{high}{names}, '*', ranges, steps and lists of them"

Expanded = tuple[list[list[int | str]], dict[int, set[int | str]]]


def parse(folded: str) -> WallPattern:
    """What a folded expression names.

    Raises:
        InvalidInput: field `expression`, saying which field is wrong and what it may hold.
    """
    texts = split(folded)
    rewritten = [_rewrite(text, cron_field, folded) for text, cron_field in zip(texts, FIELDS, strict=True)]
    values, nth = _expand(rewritten, folded)
    is_both_required = any(text.startswith(("*", "?")) for text in (texts[2], texts[4]))
    if nth and not is_both_required:
        raise refuse("'*' as day-of-month where day-of-week holds '#' or 'L'", folded)
    days = DayRule(
        months=_mask(values[3], FIELDS[3]),
        month_days=_mask(values[2], MONTH_DAY),
        is_last_day_named="l" in values[2],
        weekdays=_mask(values[4], WEEKDAY),
        weekdays_of_month=_weekdays_of_month(nth),
        is_both_required=is_both_required,
    )
    return WallPattern(
        minutes=_mask(values[0], FIELDS[0]),
        hours=_mask(values[1], FIELDS[1]),
        days=days,
        is_every_day=days.is_every_day,
        is_wild=texts[0].startswith("*") or texts[1].startswith("*"),
    )


def _expand(texts: list[str], folded: str) -> Expanded:
    try:
        expanded: Expanded = croniter.expand(" ".join(texts))
    except CroniterError as error:
        raise _blame(texts, folded) from error
    return expanded


def _blame(texts: list[str], folded: str) -> Exception:
    """The error that names the field which croniter refuses alone."""
    for position, (text, cron_field) in enumerate(zip(texts, FIELDS, strict=True)):
        alone = ["*"] * 5
        alone[position] = text
        try:
            croniter.expand(" ".join(alone))
        except CroniterError:
            return _refuse_field(cron_field, folded)
    return refuse("five fields that croniter accepts together", folded)


def _rewrite(text: str, cron_field: CronField, folded: str) -> str:
    """The field with numbers for names and single values for ranges of one, its items checked one by one."""
    items = text.split(",")
    _refuse_extensions(items, cron_field, folded)
    shape = {MONTH_DAY: _MONTH_DAY_ITEM, WEEKDAY: _WEEKDAY_ITEM}.get(cron_field, _ITEM)
    if not all(shape.fullmatch(item) for item in items):
        raise _refuse_field(cron_field, folded)
    numbers = _numbers_by_name(cron_field)
    return ",".join(_collapse(_WORD.sub(lambda word: _number(word[0], numbers, cron_field, folded), i)) for i in items)


def _refuse_extensions(items: list[str], cron_field: CronField, folded: str) -> None:
    if any(_HASHED.match(item) for item in items):
        raise refuse("fixed values (hashed 'H' and random 'R' values are not supported)", folded)
    if cron_field is MONTH_DAY and any(_NEAREST_WEEKDAY.fullmatch(item) for item in items):
        raise refuse("days of the month (the nearest weekday, 'W', is not supported)", folded)
    nth_items = [bool(_NTH_ITEM.fullmatch(item)) for item in items]
    if cron_field is WEEKDAY and any(nth_items) and not all(nth_items):
        raise refuse("a day-of-week of either plain days or days with '#' or 'L', not both", folded)


def _numbers_by_name(cron_field: CronField) -> dict[str, str]:
    by_name = {name: str(number) for number, name in enumerate(cron_field.names, cron_field.low)}
    return by_name | {name[:3]: number for name, number in by_name.items()}


def _number(word: str, numbers: dict[str, str], cron_field: CronField, folded: str) -> str:
    if word == "l" and cron_field in (MONTH_DAY, WEEKDAY):
        return word
    if word not in numbers:
        raise _refuse_field(cron_field, folded)
    return numbers[word]


def _collapse(item: str) -> str:
    equal = _EQUAL_RANGE.fullmatch(item)
    return equal[1] if equal else item


def _refuse_field(cron_field: CronField, folded: str) -> Exception:
    high = 7 if cron_field is WEEKDAY else cron_field.high
    names = f" or names ({cron_field.names[0]} or {cron_field.names[0][:3]})" if cron_field.names else ""
    return refuse(f"{cron_field.name} as {_FORMS.format(low=cron_field.low, high=high, names=names)}", folded)


def _mask(values: list[int | str], cron_field: CronField) -> int:
    if "*" in values:
        return mask_of(cron_field.values)
    return mask_of(value for value in values if isinstance(value, int))


def _weekdays_of_month(nth: dict[int, set[int | str]]) -> frozenset[WeekdayOfMonth]:
    return frozenset(
        (weekday, week if isinstance(week, int) else LAST_WEEK) for weekday, weeks in nth.items() for week in weeks
    )
