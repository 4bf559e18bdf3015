"""`constraints.txt` pins an environment that every supported Python can install."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import metadata, version
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
PINS = dict(re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE))
# The first release of each supported series is the strictest: 3.11.2 is Debian's, and some packages refuse it.
PYTHONS = ("3.11.0", "3.12.0", "3.13.0")


def test_every_requirement_is_pinned() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    names = {canonicalize_name(re.split(r"[\[<>=~ ]", line)[0]) for group in groups for line in group}
    assert names - {canonicalize_name(name) for name in PINS} == set()


@pytest.mark.parametrize("name", PINS)
def test_a_pinned_package_is_what_is_installed_and_admits_every_supported_python(name: str) -> None:
    assert version(name) == PINS[name]
    required = SpecifierSet(metadata(name).get("Requires-Python") or "")
    assert [python for python in PYTHONS if python not in required] == []


def test_no_address_of_a_registry_is_written_down() -> None:
    assert "://" not in (ROOT / "constraints.txt").read_text()
