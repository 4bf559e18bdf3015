"""The project's system checks."""

from __future__ import annotations

import pytest
from django.db import connection, connections

from backend import checks
from tests.processes import Manage, OwnPostgresFactory

pytestmark = pytest.mark.processes


def test_check_deploy_refuses_the_embedded_server_that_it_is_connected_to(
    manage: Manage, own_postgres: OwnPostgresFactory
) -> None:
    process = manage.run("check", "--deploy", url=own_postgres().url)
    assert process.returncode == 1
    assert "(backend.E001)" in process.stderr
    assert "DATABASES['default'] is one" in process.stderr


def test_check_deploy_refuses_the_supervisors_variable(manage: Manage) -> None:
    process = manage.run("check", "--deploy", env={"DOWNBEAT_EMBEDDED": "1"})
    assert process.returncode == 1
    assert "DOWNBEAT_EMBEDDED=1 is set" in process.stderr


def test_a_check_without_deploy_does_not_mind(manage: Manage) -> None:
    assert "E001" not in manage.run("check", env={"DOWNBEAT_EMBEDDED": "1"}).output


@pytest.mark.django_db
def test_a_server_is_judged_by_the_name_that_it_gives_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_setting('cluster_name')")
        name = cursor.fetchone()[0]
    monkeypatch.setattr(checks, "CLUSTER_PREFIX", name)
    assert [error.id for error in checks.embedded_postgres_is_not_deployed()] == ["backend.E001"] * len(
        connections.all()
    )
    monkeypatch.setattr(checks, "CLUSTER_PREFIX", f"not {name}")
    assert checks.embedded_postgres_is_not_deployed() == []
