"""Rows as lines of text, for a person at a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def table(titles: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows as aligned columns under their titles; nothing is cut off, nothing (None) is `-`."""
    cells = [list(titles), *([_cell(row[title]) for title in titles] for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(titles))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells
    )


def card(fields: Mapping[str, Any]) -> str:
    """The fields one below the other."""
    width = max(len(name) for name in fields)
    return "\n".join(f"{name.ljust(width)}  {_cell(value)}" for name, value in fields.items())


def _cell(value: Any) -> str:
    return "-" if value is None or value == "" else str(value)
