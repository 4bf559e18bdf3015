"""The golden file: expressions, zones and dialects with their next occurrences, as agreed.

It fails on any difference, so that no new croniter, tzdata, ephem or Python changes silently when schedules fire.
Outside UTC only occurrences before 2025 are kept, where the time zone database no longer changes. After a change that
is meant, write it again and review the difference line by line:

    python -m tests.scheduler.recurrence.test_golden
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from scheduler.recurrence import next_occurrences

GOLDEN = Path(__file__).with_name("golden.jsonl")
COUNT = 5
END_OF_HISTORY = datetime(2025, 1, 1, tzinfo=UTC)

ZONES = {
    "UTC": ["2024-02-27T23:58"],
    "America/New_York": ["2024-03-10T05:10", "2024-11-03T04:10"],
    "Europe/London": ["2024-03-31T00:10", "2024-10-26T23:10"],
    "Australia/Lord_Howe": ["2024-04-06T13:10", "2024-10-05T14:10"],
    "America/Sao_Paulo": ["2018-02-18T00:10", "2018-11-04T01:10"],
    "Africa/Cairo": ["2023-04-27T20:10", "2023-10-26T19:10"],
    "Antarctica/Troll": ["2024-03-30T23:10", "2024-10-26T23:10"],
    "Pacific/Apia": ["2011-12-29T20:10"],
    "Asia/Calcutta": ["2024-02-28T12:00"],
}
BOTH = [
    "* * * * *", "*/5 * * * *", "*/7 * * * *", "0 * * * *", "30 * * * *", "15,45 * * * *", "0 */2 * * *",
    "*/20 1-3 * * *",
    "0 0 * * *", "15 0 * * *", "30 1 * * *", "0 2 * * *", "30 2 * * *", "15,45 1,2 * * *", "0 1,2,3 * * *",
    "30 0-23 * * *", "10-50/20 2 * * *", "0 9 * * mon-fri", "0 9 * * 1-5", "0 7 * * sunday", "30 3 1 * *",
    "0 0 1 january,july *", "0 0 31 * *", "0 0 29 2 *", "0 12 1-7 * tue", "0 9 13 * 5", "0 0 */2 * 1",
    "0 0 1-31/10 * 1-3",
    "5 4 * nov-feb sat", "0 22-4 * * *", "0 22-4/3 * * fri-mon", "0 0 * * 5-5", "@daily", "@hourly", "@weekly",
    "@monthly",    "@yearly",
]  # fmt: skip
UNIX_ONLY = [
    "0 0 * * 7", "0 0 * * 5-7", "59/15 * * * *", "5/20 2 * * *", "0 0 l * *", "0 0 * * l5", "0 0 * * 2#2", "0 0 ? * 3",
]  # fmt: skip
CELERY_ONLY = ["0 0 1-5/2-3 * *", "mar 3 * * *"]
OTHER_KINDS = {
    "interval": ["PT1.5S", "PT90M", "P1D"],
    "clocked": ["2024-11-03T01:30:00-05:00", "2024-02-27T23:58Z", "2024-11-03T06:30:00.25Z"],
    "solar": [
        "dawn_astronomical 52.52 13.405", "dawn_nautical 52.52 13.405", "dawn_civil 52.52 13.405",
        "sunrise 52.52 13.405", "solar_noon 52.52 13.405", "sunset 52.52 13.405", "dusk_civil 52.52 13.405",
        "dusk_nautical 52.52 13.405", "dusk_astronomical 52.52 13.405", "sunset -33.868 151.2", "sunrise 0 -179.999999",
        "sunset 69.65 18.95", "dusk_astronomical 60.17 24.94", "sunrise 89.5 0", "solar_noon -90 179.2",
    ],
}  # fmt: skip
STARTS = ["2024-03-10T05:10", "2024-05-20T00:00", "2024-11-03T04:10"]


def compute() -> Iterator[str]:
    """The file's lines."""
    for zone, starts in ZONES.items():
        for after in starts:
            for dialect, own in (("unix", UNIX_ONLY), ("celery", CELERY_ONLY)):
                for expression in BOTH + own:
                    yield compute_line(expression, zone, dialect, after)
    for kind, others in OTHER_KINDS.items():
        for after in STARTS:
            for expression in others:
                yield compute_other_line(kind, expression, after)


def compute_line(expression: str, zone: str, dialect: str, after: str) -> str:
    found = next_occurrences(
        kind="crontab",
        expression=expression,
        timezone=zone,
        dialect=dialect,
        after=datetime.fromisoformat(after).replace(tzinfo=UTC),
        count=COUNT,
    )
    occurrences = [one.strftime("%Y-%m-%dT%H:%M") for one in found if zone == "UTC" or one < END_OF_HISTORY]
    line = {"expression": expression, "timezone": zone, "dialect": dialect, "after": after, "next": occurrences}
    return json.dumps(line, separators=(",", ":"))


def compute_other_line(kind: str, expression: str, after: str) -> str:
    start = datetime.fromisoformat(after).replace(tzinfo=UTC)
    found = next_occurrences(kind=kind, expression=expression, timezone="America/New_York", after=start, count=COUNT)
    line = {"kind": kind, "expression": expression, "after": after, "next": [one.isoformat()[:-6] for one in found]}
    return json.dumps(line, separators=(",", ":"))


def test_next_occurrences_are_those_of_the_golden_file() -> None:
    golden = GOLDEN.read_text(encoding="utf-8").splitlines()
    assert len(golden) > 1000
    assert list(compute()) == golden


def main() -> None:
    """Writes the golden file."""
    GOLDEN.write_text("".join(line + "\n" for line in compute()), encoding="utf-8")


if __name__ == "__main__":
    main()
