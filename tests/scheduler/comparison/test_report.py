"""The comparison as people and programs read it."""

from __future__ import annotations

import json
import re
from datetime import datetime, timedelta
from html.parser import HTMLParser
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from scheduler.api import PgPeriodicSchedule
from scheduler.comparison import Verdict, compare
from scheduler.comparison.chart import draw
from scheduler.comparison.report import as_html
from scheduler.comparison.timeline import MOST_BINS, Timeline
from scheduler.models import BeatProcess
from tests.scheduler.comparison.test_compare import MINUTE, made, process, send, shadow, start

__all__ = ["made", "process", "start"]  # fixtures
pytestmark = pytest.mark.django_db


def run(*arguments: object) -> str:
    """What the command prints."""
    out = StringIO()
    call_command("compare_runs", *map(str, arguments), stdout=out)
    return out.getvalue()


@pytest.fixture
def compared(made: PgPeriodicSchedule, process: BeatProcess, start: datetime) -> PgPeriodicSchedule:
    """Three occurrences, of which Beat lost one and sent another twice."""
    for minute in range(3):
        shadow(made, start + minute * MINUTE)
    send(process, made, start)
    send(process, made, start + 2 * MINUTE)
    send(process, made, start + 2 * MINUTE, late=1)
    return made


def test_the_table_tells_counts_causes_and_each_schedule(compared: PgPeriodicSchedule, start: datetime) -> None:
    text = run("--since", start.isoformat())
    assert text.startswith("3 occurrences from ")
    assert "why they differ: lost_send 1, unexplained 1" in text
    assert re.search(r"^Nightly +0 of 20 +1 +0 +1 +1 +0 +0 +\S+ \S+ semantics lost_send$", text, re.MULTILINE)


def test_json_holds_everything(compared: PgPeriodicSchedule, start: datetime) -> None:
    told: dict[str, Any] = json.loads(run("--since", start.isoformat(), "--schedule", compared.pk, "--json"))
    assert told["verdicts"]["duplicate"] == told["verdicts"]["semantics"] == told["verdicts"]["match"] == 1
    assert [(one["id"], one["is_ready"]) for one in told["schedules"]] == [(str(compared.pk), False)]
    lost, twice = told["differences"]
    assert (lost["verdict"], lost["cause"], lost["sent_at"]) == ("semantics", "lost_send", [])
    assert (twice["verdict"], twice["cause"], len(twice["sent_at"])) == ("duplicate", None, 2)
    assert sum(bar["sends"] for bar in told["lateness_seconds"]) == 2


class Loads(HTMLParser):
    """What a page would load or run."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note scripts, and whatever has an address."""
        named = {name for name, _ in attrs}
        if tag in {"script", "link", "img", "iframe"} or named & {"src", "href", "onclick", "onload"}:
            self.found.append(tag)


def test_the_page_is_whole_in_itself_and_escapes_names(
    compared: PgPeriodicSchedule, start: datetime, tmp_path: Path
) -> None:
    PgPeriodicSchedule.objects.update(pipeline_name="<script>alert(1)</script>")
    path = tmp_path / "report.html"
    assert run("--since", start.isoformat(), "--html", path).strip() == f"written to {path}"
    text = path.read_text()
    loads = Loads()
    loads.feed(text)
    assert loads.found == []
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert text.count("<rect ") == 3
    assert "lost_send: Celery Beat was running and did not send it" in text


def labels(page: str) -> list[str]:
    """The texts of the chart: what the highest bar stands for, and the times."""
    return re.findall("<text [^>]*>([^<]*)</text>", page)


def test_the_chart_of_some_minutes_has_a_bar_for_each_and_their_times(
    compared: PgPeriodicSchedule, start: datetime
) -> None:
    page = as_html(compare(since=start))
    assert "each bar is 1 minute." in page
    assert len(set(re.findall(r'<rect x="([0-9.]+)"', page))) == 3
    assert float(re.findall(r'<rect [^>]*width="([0-9.]+)"', page)[0]) < 100
    highest, *times = labels(page)
    assert highest == "1"
    assert f"{start + MINUTE:%H:%M}" in times


@pytest.mark.parametrize(
    ("span", "each", "fewest"),
    [(60, 1, 60), (3 * 60, 5, 36), (24 * 60, 30, 48), (7 * 24 * 60, 180, 56), (31 * 24 * 60, 720, 62)],
)
def test_bins_are_as_wide_as_the_time_calls_for(start: datetime, span: int, each: int, fewest: int) -> None:
    forth, back = Timeline(), Timeline()
    for minute in range(span + 1):
        forth.add(start + minute * MINUTE, Verdict.MATCH)
        back.add(start + (span - minute) * MINUTE, Verdict.MATCH)
    assert forth.bins == back.bins
    assert forth.width == each * MINUTE
    assert fewest <= len(forth.bins) <= MOST_BINS
    assert sum(counted[Verdict.MATCH] for counted in forth.bins.values()) == span + 1
    drawn = draw(forth)
    assert drawn is not None
    assert 4 <= len(drawn.labels) <= 14


def test_a_comparison_of_weeks_has_a_bounded_chart(
    made: PgPeriodicSchedule, process: BeatProcess, start: datetime
) -> None:
    for hours in range(0, 24 * 21, 7):
        shadow(made, start - timedelta(hours=hours))
    assert as_html(compare(since=start - timedelta(days=22))).count("<rect ") <= MOST_BINS


def test_an_empty_comparison_says_what_is_missing(start: datetime) -> None:
    assert "There is nothing to compare" in as_html(compare(since=start))
    assert run().startswith("0 occurrences")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--since", "yesterday"], "--since: expected an ISO 8601 instant"),
        (
            ["--since", "2026-01-01T00:00:00"],
            "with an offset, such as 2026-12-24T18:00:00Z, got: '2026-01-01T00:00:00'",
        ),
        (["--until", "2001-01-01T00:00:00Z"], "got: 2001-01-01T00:00:00+00:00"),
        (["--schedule", "x"], "--schedule: expected a UUID, got: 'x'"),
        (["--html", "/no/such/folder/report.html"], "--html: expected a file that can be written"),
    ],
)
def test_bad_options_are_refused_by_name(arguments: list[str], words: str) -> None:
    with pytest.raises(CommandError, match=re.escape(words)) as refused:
        run(*arguments)
    assert refused.value.returncode == 2


def test_an_unknown_schedule_has_an_exit_code_of_its_own() -> None:
    with pytest.raises(CommandError, match="expected the id of an existing schedule") as refused:
        run("--schedule", "00000000-0000-0000-0000-000000000000")
    assert refused.value.returncode == 5
