"""The commands reference lists every command with its options, and every exit code."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.core.management import get_commands, load_command_class
from django.core.management.base import BaseCommand

from pg_queue.api import ExitCode, all_duties
from scheduler.management.commands.schedules import NOT_FOUND

ROOT = Path(__file__).resolve().parents[2]
REFERENCE = (ROOT / "docs/reference/commands.md").read_text()
SERVICES = {"run_reaper", "run_scheduler", "run_worker"}
OURS = sorted(name for name, app in get_commands().items() if app in {"backend.pipelines", "pg_queue", "scheduler"})


def section(title: str) -> str:
    """The text below one heading of the second level."""
    (found,) = [part for part in REFERENCE.split("\n## ")[1:] if part.splitlines()[0].strip("`") == title]
    return found


def options(parser: argparse.ArgumentParser) -> Iterator[str]:
    """The long options of a parser, and of those below it."""
    for action in parser._actions:
        yield from (option for option in action.option_strings if option.startswith("--"))
        if isinstance(action, argparse._SubParsersAction):
            for child in action.choices.values():
                yield from options(child)


def own_options(name: str) -> set[str]:
    """What a command takes besides what every Django command takes."""
    command = load_command_class(get_commands()[name], name)
    return {*options(command.create_parser("manage.py", name))} - {*options(BaseCommand().create_parser("x", "y"))}


@pytest.mark.parametrize("name", OURS)
def test_the_reference_lists_every_option_of_every_command(name: str) -> None:
    assert f"[`{name}`](#{name})" in REFERENCE
    text = section(name) + (section("Options of every service") if name in SERVICES else "")
    assert own_options(name)
    assert not {option for option in own_options(name) if not re.search(rf"{option}\b", text)}


def test_the_reference_lists_every_duty_of_the_reaper() -> None:
    text = section("run_reaper")
    assert not {duty.name for duty in all_duties() if f"`{duty.name}`" not in text}


def test_the_reference_lists_every_exit_code() -> None:
    listed = {int(code) for code in re.findall(r"^\| (\d) \|", section("Exit codes"), re.MULTILINE)}
    assert listed == {*map(int, ExitCode), NOT_FOUND}
