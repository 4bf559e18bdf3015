"""The last page of a run: how many of the contract's behaviours each store passed, and which were skipped, and why.

A pytest plugin, and not a `conftest.py` of this folder, because of a run by several workers the process that prints
collects nothing itself. A report carries its store as the name of a marker: that travels from worker to printer.
"""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Iterable

import pytest

STORES = ("postgres", "sqlite", "redis", "mongodb")
NOTES = {} if os.environ.get("TEST_MONGODB_URL") else {"mongodb": "on the stand-in mongomock, no server: "}
"""What the line of a store says besides its figures."""
_PREFIX = "store_"
_OUTCOMES = ("passed", "failed", "skipped")


def store_marker(store: str) -> pytest.MarkDecorator:
    """Marks a test as one of this store's."""
    marker: pytest.MarkDecorator = getattr(pytest.mark, _PREFIX + store)
    return marker


def pytest_configure(config: pytest.Config) -> None:
    """Make the markers known."""
    config.addinivalue_line("markers", "capability(*names): skips where the store under test lacks one of these")
    for store in STORES:
        config.addinivalue_line("markers", f"{_PREFIX}{store}: a behaviour of the queue's contract, on this store")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the table, if any of these tests was run."""
    counts, reasons = _tally(terminalreporter)
    if not counts:
        return
    terminalreporter.section("the queue's contract, by store")
    terminalreporter.write_line(f"{'store':<12}{'passed':>8}{'failed':>8}{'skipped':>9}  why skipped")
    for store in STORES:
        figures = "".join(
            f"{counts[store][outcome]:>{width}}" for outcome, width in zip(_OUTCOMES, (8, 8, 9), strict=True)
        )
        why = "; ".join(f"{count} × {reason}" for reason, count in sorted(reasons[store].items()))
        terminalreporter.write_line(
            f"{store:<12}{figures}  {NOTES.get(store, '')}{why or '-'}"
            if counts[store]
            else f"{store:<12}  not in this run"
        )


def _tally(terminalreporter: pytest.TerminalReporter) -> tuple[dict[str, Counter[str]], dict[str, Counter[str]]]:
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    reasons: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for outcome in (*_OUTCOMES, "error"):
        for report in terminalreporter.getreports(outcome):
            if outcome == "passed" and getattr(report, "when", "") != "call":
                continue
            for store in _stores(getattr(report, "keywords", ())):
                counts[store]["failed" if outcome == "error" else outcome] += 1
                if outcome == "skipped":
                    reasons[store][_reason(report.longrepr)] += 1
    return counts, reasons


def _stores(keywords: Iterable[str]) -> list[str]:
    return [store for store in STORES if _PREFIX + store in keywords]


def _reason(longrepr: object) -> str:
    """Of (path, line, "Skipped: <reason>")."""
    said = longrepr[2] if isinstance(longrepr, tuple) else str(longrepr)
    return str(said).removeprefix("Skipped: ")
