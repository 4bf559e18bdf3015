"""What a start makes ready, on a database that a person has used before."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from backend.standalone.credentials import Credentials
from backend.standalone.output import Terminal
from backend.standalone.preparation import Options, prepare_database, service_environment
from tests.processes import Manage, ProcessDatabase, child_environment

pytestmark = pytest.mark.processes
Prepare = Callable[..., tuple[Credentials, str]]
SAY = "from django.contrib.auth import get_user_model as users; from django.contrib.auth import authenticate as login; "


@pytest.fixture
def prepare(process_database: ProcessDatabase, tmp_path: Path) -> Prepare:
    """Prepares the test's database as a start on one data directory does; the credentials, and what was said."""

    def run(**environment: str) -> tuple[Credentials, str]:
        options = Options(port=8000, data_dir=tmp_path, database_url=process_database.url)
        said = io.StringIO()
        inherited = child_environment(process_database.url) | service_environment(options, process_database.url, "x")
        return prepare_database(options, inherited | environment, Terminal(said)), said.getvalue()

    return run


def test_a_start_makes_a_user_and_the_next_one_finds_it(prepare: Prepare, tmp_path: Path) -> None:
    first, said = prepare()
    assert first.username == "admin"
    assert len(first.password) >= 10
    assert "the password of admin was set" in said
    written = json.loads((tmp_path / "credentials.json").read_text())
    assert written == {
        "url": "http://127.0.0.1:8000", "username": "admin", "password": first.password, "token": first.token,
    }  # fmt: skip
    assert prepare()[0] == first


def test_a_password_that_a_person_chose_is_kept_and_not_pretended_to_be_known(prepare: Prepare, manage: Manage) -> None:
    prepare()
    change = "u = users().objects.get(username='admin'); u.set_password('my-own-choice'); u.save()"
    assert manage.run("shell", "-c", SAY + change).returncode == 0
    for _ in range(2):
        assert prepare()[0].password == ""
    credentials, said = prepare(DOWNBEAT_ADMIN_PASSWORD="given-by-the-environment")
    assert credentials.password == "given-by-the-environment"
    assert "the password of admin was set" in said
    shown = manage.run("shell", "-c", SAY + "print(login(username='admin', password='given-by-the-environment'))")
    assert shown.stdout.splitlines()[-1] == "admin"


def test_a_lost_password_is_replaced(prepare: Prepare, tmp_path: Path) -> None:
    first, _ = prepare()
    (tmp_path / "credentials.json").unlink()
    second, said = prepare()
    assert (second.username, second.token) == (first.username, first.token)
    assert second.password not in {"", first.password}
    assert "the password of admin was set" in said


def test_a_user_who_was_deleted_is_not_made_again(prepare: Prepare, manage: Manage) -> None:
    prepare()
    assert manage.run("shell", "-c", SAY + "users().objects.all().delete()").returncode == 0
    credentials, _ = prepare()
    assert (credentials.username, credentials.password, credentials.token) == ("", "", "")
