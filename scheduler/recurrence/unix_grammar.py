"""The `unix` dialect: ISC cron's fields as croniter parses them.

Two things are done before croniter sees a field. Names become numbers, full ones too, which croniter refuses. A range
of one value (`9-9`) becomes that value: croniter 7 reads it as the whole field, cron(5) does not.

What croniter has beyond five plain fields is refused by name (hashed and random values, the nearest weekday), except
`L` and `#`: the last day of the month, the last Friday (`L5`), the second Tuesday (`2#2`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from croniter import CroniterError, croniter

from scheduler.errors import InvalidInput
from scheduler.recurrence.fields import FIELDS, MONTH_DAY, WEEKDAY, CronField, refuse, split
from scheduler.recurrence.walltime import LAST_WEEK, DayRule, WallPattern, WeekdayOfMonth, build_pattern, mask_of

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


@dataclass(frozen=True, slots=True, kw_only=True)
class ParsedField:
    """What one field names."""

    values: int
    """Mask."""
    is_last_day_named: bool
    nth: frozenset[WeekdayOfMonth]


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
    is_both_required = any(text.startswith(("*", "?")) for text in (texts[2], texts[4]))
    if weekdays.nth and not is_both_required:
        raise refuse("'*' as day-of-month where day-of-week holds '#' or 'L'", folded)
    days = DayRule(
        months=months.values,
        month_days=month_days.values,
        is_last_day_named=month_days.is_last_day_named,
        weekdays=weekdays.values,
        weekdays_of_month=weekdays.nth,
        is_both_required=is_both_required,
    )
    return build_pattern(texts=texts, minutes=minutes.values, hours=hours.values, days=days)


@lru_cache(maxsize=4096)
def _parse_field(text: str, position: int) -> ParsedField:
    """One field, through croniter, which takes 100 µs and more: few distinct fields make up many expressions."""
    cron_field = FIELDS[position]
    alone = ["*"] * 5
    alone[position] = _rewrite(text, cron_field)
    try:
        expanded, nth = croniter.expand(" ".join(alone))
    except CroniterError as error:
        raise _refuse_field(cron_field, text) from error
    return ParsedField(
        values=_mask(expanded[position], cron_field),
        is_last_day_named="l" in expanded[position],
        nth=_weekdays_of_month(nth),
    )


def _rewrite(text: str, cron_field: CronField) -> str:
    """The field with numbers for names and single values for ranges of one, its items checked one by one."""
    items = text.split(",")
    _refuse_extensions(items, cron_field, text)
    shape = {MONTH_DAY: _MONTH_DAY_ITEM, WEEKDAY: _WEEKDAY_ITEM}.get(cron_field, _ITEM)
    if not all(shape.fullmatch(item) for item in items):
        raise _refuse_field(cron_field, text)
    numbers = _numbers_by_name(cron_field)
    return ",".join(_collapse(_WORD.sub(lambda word: _number(word[0], numbers, cron_field), item)) for item in items)


def _refuse_extensions(items: list[str], cron_field: CronField, text: str) -> None:
    if any(_HASHED.match(item) for item in items):
        raise refuse("fixed values (hashed 'H' and random 'R' values are not supported)", text)
    if cron_field is MONTH_DAY and any(_NEAREST_WEEKDAY.fullmatch(item) for item in items):
        raise refuse("days of the month (the nearest weekday, 'W', is not supported)", text)
    nth_items = [bool(_NTH_ITEM.fullmatch(item)) for item in items]
    if cron_field is WEEKDAY and any(nth_items) and not all(nth_items):
        raise refuse("a day-of-week of either plain days or days with '#' or 'L', not both", text)


def _numbers_by_name(cron_field: CronField) -> dict[str, str]:
    by_name = {name: str(number) for number, name in enumerate(cron_field.names, cron_field.low)}
    return by_name | {name[:3]: number for name, number in by_name.items()}


def _number(word: str, numbers: dict[str, str], cron_field: CronField) -> str:
    if word == "l" and cron_field in (MONTH_DAY, WEEKDAY):
        return word
    if word not in numbers:
        raise _refuse_field(cron_field, word)
    return numbers[word]


def _collapse(item: str) -> str:
    equal = _EQUAL_RANGE.fullmatch(item)
    return equal[1] if equal else item


def _refuse_field(cron_field: CronField, text: str) -> Exception:
    high = 7 if cron_field is WEEKDAY else cron_field.high
    names = f" or names ({cron_field.names[0]} or {cron_field.names[0][:3]})" if cron_field.names else ""
    return refuse(f"{cron_field.name} as {_FORMS.format(low=cron_field.low, high=high, names=names)}", text)


def _mask(values: list[int | str], cron_field: CronField) -> int:
    if "*" in values:
        return mask_of(cron_field.values)
    return mask_of(value for value in values if isinstance(value, int))


def _weekdays_of_month(nth: dict[int, set[int | str]]) -> frozenset[WeekdayOfMonth]:
    return frozenset(
        (weekday, week if isinstance(week, int) else LAST_WEEK) for weekday, weeks in nth.items() for week in weeks
    )
