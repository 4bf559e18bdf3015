"""The settings reference lists every key with its default, and every environment variable that the service reads."""

from __future__ import annotations

import re
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import pytest

from pg_queue.checks import check_queue_settings
from pg_queue.settings import QueueSettings, ResultsSettings
from scheduler.settings import SchedulerSettings

ROOT = Path(__file__).resolve().parents[2]
REFERENCE = (ROOT / "docs/reference/settings.md").read_text()


@pytest.mark.parametrize("settings", [QueueSettings, ResultsSettings, SchedulerSettings])
def test_the_reference_lists_every_key_with_its_default(settings: type) -> None:
    for field in fields(settings):
        assert field.default is not MISSING
        assert f"| `{field.name.upper()}` | `{field.default!r}` | " in REFERENCE


def test_a_wrong_setting_sends_its_reader_to_this_reference(settings: Any) -> None:
    settings.PG_QUEUE = {"UNHEARD": 1}
    (error,) = check_queue_settings()
    assert error.hint == "docs/reference/settings.md lists every key."


def test_the_reference_lists_every_environment_variable_of_the_service() -> None:
    read = set(re.findall(r"DOWNBEAT_[A-Z_]+[A-Z]", (ROOT / "backend/settings.py").read_text()))
    assert read
    assert not {name for name in read if f"`{name}`" not in REFERENCE}
