"""The supervisor's terminal: one line per event, prefixed with who said it, coloured only for a person."""

from __future__ import annotations

import os
import sys
from typing import TextIO

COLOURS = ("36", "33", "35", "32", "34", "96")
RED = "31"


class Terminal:
    """Writes prefixed lines. `is_open` turns False when nobody reads any more, and later lines are dropped."""

    def __init__(self, stream: TextIO | None = None, *, width: int = 9) -> None:
        """`width` is that of the prefix column."""
        self.stream = stream or sys.stdout
        self.width = width
        self.is_open = True
        self.is_coloured = self.stream.isatty() and "NO_COLOR" not in os.environ
        self._colours: dict[str, str] = {}

    def say(self, name: str, text: str) -> None:
        """Write each line of `text` behind the name."""
        prefix = self._paint(f"{name:<{self.width}} |", self._colour(name))
        self._write("".join(f"{prefix} {line}\n" for line in text.splitlines() or [""]))

    def complain(self, text: str) -> None:
        """Write lines of the supervisor's own that a person should notice."""
        self.say("downbeat", self._paint(text, RED))

    def show(self, text: str) -> None:
        """Write text as it is, without a prefix."""
        self._write(text + "\n")

    def _colour(self, name: str) -> str:
        return self._colours.setdefault(name, COLOURS[len(self._colours) % len(COLOURS)])

    def _paint(self, text: str, colour: str) -> str:
        return f"\x1b[{colour}m{text}\x1b[0m" if self.is_coloured else text

    def _write(self, text: str) -> None:
        if not self.is_open:
            return
        try:
            self.stream.write(text)
            self.stream.flush()
        except (BrokenPipeError, OSError):
            self.is_open = False
