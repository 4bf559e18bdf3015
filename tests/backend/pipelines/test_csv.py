"""The pipeline that does real work: a CSV file into a table, transformed, aggregated."""

from __future__ import annotations

import csv
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from django.conf import settings

from backend.pipelines import csv_load, demo, tasks
from backend.pipelines.models import Pipeline, PipelineExecution, TimeZoneChange, TimeZoneSummary

pytestmark = pytest.mark.django_db
SHIPPED = Path(settings.PIPELINES_INPUT_DIR) / "time_zone_changes.csv"
HEADER = ",".join(csv_load.COLUMNS)
GOOD = "Europe/Berlin,DE,2024-03-31T01:00Z,60,120,CEST"


@pytest.fixture
def folder(tmp_path, settings):
    settings.PIPELINES_INPUT_DIR = str(tmp_path)
    return tmp_path


def test_the_demo_pipeline_loads_transforms_and_aggregates_the_shipped_file():
    demo.seed(None)
    pipeline = Pipeline.objects.get(pk=demo.identity("pipeline"))
    answer = tasks.run(str(pipeline.pk))
    with SHIPPED.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert TimeZoneChange.objects.count() == len(rows) > 3000
    europe = [r for r in rows if r["zone"].startswith("Europe/") and r["changed_at"].startswith("2024-")]
    summary = TimeZoneSummary.objects.get(region="Europe", year=2024)
    assert (summary.changes, summary.zones) == (len(europe), len({r["zone"] for r in europe}))
    assert summary.forward + summary.backward == summary.changes
    assert answer["result"]["loaded"] == len(rows)
    assert answer["result"]["summaries"] == TimeZoneSummary.objects.count()
    assert PipelineExecution.objects.get(pk=answer["execution"]).state == "succeeded"


def test_running_it_twice_leaves_the_same_rows():
    for _ in range(2):
        tasks.load_csv("time_zone_changes.csv")
        tasks.transform()
        tasks.aggregate()
    assert TimeZoneChange.objects.count() == sum(1 for _ in SHIPPED.open()) - 1
    tasks.aggregate(since_year=2024)
    assert set(TimeZoneSummary.objects.values_list("year", flat=True)) == {2024, 2025}


def test_the_shipped_file_holds_facts():
    with SHIPPED.open(newline="") as file:
        rows = [r for r in csv.DictReader(file) if r["zone"] in {"Europe/Paris", "America/New_York", "Asia/Pyongyang"}]
    assert {r["zone"] for r in rows} == {"Europe/Paris", "America/New_York", "Asia/Pyongyang"}
    for row in rows:
        at = datetime.fromisoformat(row["changed_at"]).astimezone(UTC)
        offset = at.astimezone(ZoneInfo(row["zone"])).utcoffset()
        assert offset.total_seconds() == int(row["offset_after_minutes"]) * 60


@pytest.mark.parametrize(
    ("name", "expected"),
    [("absent.csv", "found none named"), ("../secret.csv", "inside the input folder"), ("/etc/passwd", "inside")],
)
def test_a_file_that_is_not_in_the_folder_is_refused(folder, name, expected):
    (folder.parent / "secret.csv").write_text(HEADER)
    with pytest.raises(csv_load.BadInputFile, match=expected):
        tasks.load_csv(name)


def test_a_link_out_of_the_folder_is_refused(folder):
    (folder.parent / "secret.csv").write_text(HEADER)
    (folder / "link.csv").symlink_to(folder.parent / "secret.csv")
    with pytest.raises(csv_load.BadInputFile, match="inside the input folder"):
        tasks.load_csv("link.csv")


def test_a_wrong_header_is_refused_with_what_was_expected(folder):
    (folder / "a.csv").write_text("zone,when\nx,y\n")
    with pytest.raises(
        csv_load.BadInputFile, match=r"a.csv, line 1: expected the header zone,country.*got: 'zone,when'"
    ):
        tasks.load_csv("a.csv")


@pytest.mark.parametrize(
    ("row", "column"),
    [
        ("Europe/Berlin,DE,2024-03-31T01:00Z,sixty,120,CEST", "offset_before_minutes"),
        ("Europe/Berlin,DEU,2024-03-31T01:00Z,60,120,CEST", "country"),
        ("Europe/Berlin,DE,2024-03-31T01:00Z,60", "missing data"),
    ],
)
def test_a_bad_row_is_named_by_line_and_the_old_rows_stay(folder, row, column):
    (folder / "good.csv").write_text(f"{HEADER}\n{GOOD}\n")
    (folder / "bad.csv").write_text(f"{HEADER}\n{GOOD}\n{row}\n")
    tasks.load_csv("good.csv")
    with pytest.raises(csv_load.BadInputFile, match=rf"bad.csv, line 3.*{column}"):
        tasks.load_csv("bad.csv")
    assert TimeZoneChange.objects.count() == 1


def test_a_file_larger_than_a_chunk_is_streamed_whole(folder):
    rows = csv_load.CHUNK_BYTES // len(GOOD) * 3
    (folder / "large.csv").write_text("\n".join([HEADER, *[GOOD] * rows]) + "\n")
    assert tasks.load_csv("large.csv")["rows"] == rows
