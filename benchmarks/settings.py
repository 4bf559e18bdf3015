"""The project's settings for processes that a benchmark starts: its own task beside the others."""

from __future__ import annotations

from backend.settings import *  # noqa: F403 - a settings module takes all of the other one

INSTALLED_APPS = [*INSTALLED_APPS, "benchmarks"]  # noqa: F405
