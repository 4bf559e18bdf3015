"""What a start makes ready, on a database that a person has used before."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from backend.standalone.credentials import Credentials
from backend.standalone.errors import StandaloneError
from backend.standalone.output import Terminal
from backend.standalone.preparation import Options, prepare_database, service_environment
from backend.standalone.services import Ports, service_specs
from tests.processes import Manage, ProcessDatabase, child_environment

pytestmark = pytest.mark.processes
Prepare = Callable[..., tuple[Credentials, str]]
SAY = "from django.contrib.auth import get_user_model as users; from django.contrib.auth import authenticate as login; "


@pytest.fixture
def prepare(process_database: ProcessDatabase, tmp_path: Path) -> Prepare:
    """Prepares the test's database as a start on one data directory does; the credentials, and what was said."""

    def run(**environment: str) -> tuple[Credentials, str]:
        options = Options(port=8000, data_dir=tmp_path, database_url=process_database.url, has_beat=False)
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


@pytest.mark.parametrize(
    ("environment", "has_beat"),
    [
        ({}, True),
        ({"DOWNBEAT_DEMO_BEAT": "0"}, False),
        ({"DATABASE_URL": "postgres://x@y/z"}, False),
        ({"DATABASE_URL": "postgres://x@y/z", "DOWNBEAT_DEMO_BEAT": "1"}, True),
    ],
)
def test_celery_beat_runs_beside_a_database_of_ones_own_only_when_it_is_asked_for(
    environment: dict[str, str], has_beat: bool
) -> None:
    options = Options.from_environment(environment)
    assert options.has_beat == has_beat
    names = [spec.name for spec in service_specs(options, Ports(web=1, schedulers=(2, 3), worker=4))]
    assert names == ["sched-1", "sched-2", "worker", "web", *(["beat", "celery"] if has_beat else [])]


def test_a_switch_of_celery_beat_that_is_neither_on_nor_off_is_refused() -> None:
    with pytest.raises(StandaloneError, match="DOWNBEAT_DEMO_BEAT: expected 0 or 1, got: 'yes'"):
        Options.from_environment({"DOWNBEAT_DEMO_BEAT": "yes"})


def test_celerys_messages_lie_in_a_folder_of_their_owner_unless_a_broker_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = Options(port=8000, data_dir=tmp_path, database_url=None, has_beat=True)
    folder = Path(service_environment(options, "", "x")["DOWNBEAT_CELERY_BROKER_FOLDER"])
    assert (folder, folder.stat().st_mode & 0o777) == (tmp_path / "celery", 0o700)
    monkeypatch.setenv("DOWNBEAT_CELERY_BROKER_URL", "redis://elsewhere")
    assert "DOWNBEAT_CELERY_BROKER_FOLDER" not in service_environment(options, "", "x")
    without = Options(port=8000, data_dir=tmp_path, database_url=None, has_beat=False)
    monkeypatch.delenv("DOWNBEAT_CELERY_BROKER_URL")
    assert "DOWNBEAT_CELERY_BROKER_FOLDER" not in service_environment(without, "", "x")
