"""Failures of the mirror's table, and counts of them."""

from __future__ import annotations

from tests.scheduler.schedules.conftest import hands  # noqa: F401  the same clock for these tests
