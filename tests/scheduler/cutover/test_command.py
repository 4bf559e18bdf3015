"""`manage.py cutover` as an operator meets it: which way each schedule went, and options that make no sense."""

from __future__ import annotations

import re
from collections.abc import Callable
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from scheduler.cutover import complete_arrivals
from tests.scheduler.cutover.conftest import Beat
from tests.scheduler.cutover.test_promotion import promote


def run(*arguments: object) -> str:
    """What the command prints."""
    out = StringIO()
    call_command("cutover", *map(str, arguments), stdout=out)
    return out.getvalue()


@pytest.mark.django_db
def test_each_line_tells_which_way_the_schedule_goes(made_before: Callable[..., Any], beat: Beat) -> None:
    row = made_before(kind="interval", expression="PT1M", name="hourly")
    promote(row)
    beat.send_canary()
    complete_arrivals()
    assert re.search("hourly +beat +waiting", run("ramp", "--percent", 0, "--wait", 0))
    assert re.search("hourly +pg +refused", run("plan", "--schedule", row.pk))


@pytest.mark.django_db
def test_where_none_is_concerned_the_organization_is_named() -> None:
    assert run("promote", "--organization", "nosuch", "--beat-stopped") == (
        "No schedule of the organization nosuch is concerned.\n"
    )
    assert run("rollback", "--all") == "No schedule is concerned.\n"


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["ramp", "--percent", "x"], "--percent: expected a number from 0 to 100, got: 'x'"),
        (["ramp", "--percent=nan"], "--percent: expected a number from 0 to 100, got: 'nan'"),
        (["promote", "--percent=-1"], "--percent: expected a number from 0 to 100, got: '-1'"),
        (["promote", "--all", "--wait", "x"], "--wait: expected a number of seconds, 0 or more, got: 'x'"),
        (["rollback", "--all", "--wait=-3"], "--wait: expected a number of seconds, 0 or more, got: '-3'"),
        (["promote", "--schedule", "nope"], "--schedule: expected a UUID, got: 'nope'"),
        (["promote", "--all", "--percent", "5"], "--all: expected to be given alone"),
        (["plan", "--all", "--schedule", "nope"], "--all: expected to be given alone"),
        (["rollback"], "--all: expected to be given, or --schedule"),
    ],
)
def test_an_option_that_makes_no_sense_is_refused_by_name(arguments: list[str], words: str) -> None:
    with pytest.raises(CommandError, match=re.escape(words)):
        run(*arguments)
