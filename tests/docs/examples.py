"""The Python of the documentation: each block of a page, where it stands, and what goes before it.

A block runs after the ones before it on its page, and sees their names. What a reader has and the page does not show
stands in a comment before the block, which no rendering shows:

    <!-- example setup
    order = Order(pk=7)
    -->

`<!-- example not run: why -->` before a block says that it is checked by its types alone. A block of nothing but names
in capitals is a part of a settings module. A line `...` between statements lets time pass: what is due is executed.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])

_PART = re.compile(
    r"^<!-- example setup\n(?P<setup>.*?)^-->$"
    r"|^<!-- example not run: (?P<reason>[^\n]+) -->$"
    r"|^(?P<indent> *)```python\n(?P<code>.*?)^ *```$",
    re.DOTALL | re.MULTILINE,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One block of Python, or what is set up before one."""

    page: Path
    line: int
    """Where its first line stands in the page, from 1."""
    code: str
    is_setup: bool = False
    not_run: str = ""
    """Why it is not run; empty: it is."""

    @property
    def padded(self) -> str:
        """The code on the lines on which it stands in the page, so that errors name those."""
        return "\n" * (self.line - 1) + self.code

    @property
    def is_settings(self) -> bool:
        """Whether it belongs into a settings module."""
        if self.is_setup:
            return False
        names = [name for statement in ast.parse(self.code).body for name in _assigned(statement)]
        return bool(names) and all(name.isupper() for name in names)

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks_of(page: Path) -> Iterator[Block]:
    """The blocks of a page, in their order."""
    text, not_run = page.read_text(), ""
    for part in _PART.finditer(text):
        kind = part.lastgroup
        if kind == "reason":
            not_run = part["reason"]
            continue
        group = "setup" if part["setup"] is not None else "code"
        line = text.count("\n", 0, part.start(group)) + 1
        code = part[group]
        if part["indent"]:
            code = re.sub(rf"^{part['indent']}", "", code, flags=re.MULTILINE)
        yield Block(page=page, line=line, code=code, is_setup=group == "setup", not_run=not_run)
        if group == "code":
            not_run = ""


def module_name(page: Path) -> str:
    """The name of the module that a page's blocks make."""
    return "example_" + re.sub(r"\W", "_", str(page.relative_to(ROOT).with_suffix("")))


def _assigned(statement: ast.stmt) -> list[str]:
    """The names that a statement assigns; one in small letters for any other statement."""
    if not isinstance(statement, ast.Assign):
        return ["other"]
    return [_root(target) for target in statement.targets]


def _root(target: ast.expr) -> str:
    while isinstance(target, ast.Subscript):
        target = target.value
    return target.id if isinstance(target, ast.Name) else "other"
