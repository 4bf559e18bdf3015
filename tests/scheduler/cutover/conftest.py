"""A database of the test's own, and the clock."""

from __future__ import annotations

from tests.scheduler.beat.conftest import rows  # noqa: F401
