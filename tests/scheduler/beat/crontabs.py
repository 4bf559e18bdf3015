"""Random crontabs in Celery's grammar, the same for the same seed, and zones whose clocks change in every way."""

from __future__ import annotations

import random
from collections.abc import Iterator
from zoneinfo import available_timezones

from scheduler.beat.evaluation import BeatSchedule
from scheduler.beat.expressions import BeatCrontab, crontab_text
from scheduler.errors import InvalidInput
from scheduler.recurrence import Cadence, validate

RESTLESS = (
    "America/New_York", "Europe/Berlin", "Europe/London", "Europe/Dublin", "Australia/Lord_Howe", "Antarctica/Troll",
    "Africa/Casablanca", "Africa/Cairo", "Asia/Beirut", "Asia/Gaza", "America/Havana", "America/Santiago",
    "Pacific/Chatham", "America/St_Johns", "America/Nuuk", "Pacific/Easter", "Atlantic/Azores",
)  # fmt: skip
"""Changes of half an hour, an hour and two, at midnight, before it and after it, two and four in a year."""
EVERYWHERE = tuple(sorted(available_timezones() - {"localtime", "Factory"}))
WEEKDAYS = ("sun", "mon", "Tuesday", "wed", "thursday", "fri", "SAT")
MONTHS = ("jan", "February", "mar", "apr", "may", "june", "jul", "aug", "sep", "oct", "nov", "December")


def draw_schedules(seed: int, number: int) -> Iterator[tuple[BeatSchedule, Cadence]]:
    """Crontabs with their zones, half of them in `RESTLESS`, as Beat holds them and as they are imported."""
    chance = random.Random(seed)
    while number:
        zone = chance.choice(RESTLESS if number % 2 else EVERYWHERE)
        times = _draw_crontab(chance)
        text = crontab_text(times)
        try:
            validate(kind="crontab", expression=text, timezone=zone, dialect="celery")
        except InvalidInput:  # 30 February
            continue
        number -= 1
        yield BeatSchedule(times=times, timezone=zone), Cadence("crontab", text, zone, "celery")


def _draw_crontab(chance: random.Random) -> BeatCrontab:
    is_any_day = chance.random() < 0.6
    return BeatCrontab(
        minute=_draw_field(chance, 0, 59),
        hour=_draw_hours(chance),
        day_of_month="*" if is_any_day else _draw_field(chance, 1, 31),
        month_of_year="*" if chance.random() < 0.8 else _draw_field(chance, 1, 12, MONTHS),
        day_of_week="*" if is_any_day else _draw_field(chance, 0, 6, WEEKDAYS),
    )


def _draw_hours(chance: random.Random) -> str:
    """Half of them among the hours in which clocks change."""
    if chance.random() < 0.5:
        return _draw_field(chance, 0, 23)
    return ",".join(map(str, chance.sample([0, 1, 2, 3, 4, 22, 23], chance.randint(1, 3))))


def _draw_field(chance: random.Random, low: int, high: int, names: tuple[str, ...] = ()) -> str:
    shape = chance.choice(["*", "*", "*/step", "one", "list", "range", "range/step", "name"])
    first, last = chance.randint(low, high), chance.randint(low, high)
    if shape == "*":
        return "*"
    if shape == "*/step":
        return f"*/{chance.randint(1, high)}"
    if shape == "list":
        return ", ".join(map(str, chance.sample(range(low, high + 1), chance.randint(2, 4))))
    if shape == "range":
        return f"{first}-{last}"
    if shape == "range/step":
        return f"{first}-{last}/{chance.randint(1, 7)}"
    return chance.choice(names) if shape == "name" and names else str(first)
