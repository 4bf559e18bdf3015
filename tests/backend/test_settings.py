"""The service's settings refuse what would be unsafe, and a production environment passes Django's own check."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

import pytest

from backend.program import program_name

ROOT = Path(__file__).resolve().parent.parent.parent
OURS = ("DOWNBEAT_SECRET_KEY", "DOWNBEAT_ALLOWED_HOSTS", "DOWNBEAT_DEBUG", "DOWNBEAT_BEHIND_TLS_PROXY")


def check(*arguments, **environment):
    clean = {name: value for name, value in os.environ.items() if name not in OURS}
    clean["DATABASE_URL"] = "postgres://downbeat:x@db.example/downbeat"
    return subprocess.run(
        [sys.executable, str(ROOT / "manage.py"), "check", *arguments],
        env=clean | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_service_for_other_hosts_does_not_start_without_a_secret_key():
    done = check(DOWNBEAT_ALLOWED_HOSTS="downbeat.example")
    assert done.returncode != 0
    assert "DOWNBEAT_SECRET_KEY: expected a long random value" in done.stderr


def test_a_production_environment_passes_the_deployment_check():
    done = check(
        "--deploy",
        "--fail-level=WARNING",
        DOWNBEAT_SECRET_KEY=secrets.token_urlsafe(60),
        DOWNBEAT_ALLOWED_HOSTS="downbeat.example",
        DOWNBEAT_BEHIND_TLS_PROXY="1",
        DOWNBEAT_HSTS_SECONDS="31536000",
    )
    assert done.returncode == 0, done.stderr


def test_a_switch_that_is_neither_on_nor_off_is_refused():
    done = check(DOWNBEAT_DEBUG="maybe")
    assert done.returncode != 0
    assert "DOWNBEAT_DEBUG: expected 0 or 1, got: 'maybe'" in done.stderr


@pytest.mark.parametrize("value", ["-1", "one", "1.5", ""])
def test_a_number_of_proxies_that_is_none_is_refused(value):
    done = check(DOWNBEAT_TRUSTED_PROXIES=value)
    assert done.returncode != 0
    assert f"DOWNBEAT_TRUSTED_PROXIES: expected a whole number, 0 or more, got: {value!r}" in done.stderr


@pytest.mark.parametrize("password", ["p/x", "12/x", "1#x", "p?x", "[x"])
def test_a_url_that_its_own_password_breaks_is_refused_by_name_and_not_shown(password):
    done = check(DATABASE_URL=f"postgres://downbeat:{password}@db.example:5432/downbeat")
    assert done.returncode != 0
    assert "DATABASE_URL: expected postgres://user:password@host:port/name" in done.stderr
    assert f"{password}@db.example" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ("/venv/lib/gunicorn/__main__.py backend.wsgi:application --workers=2", "downbeat web"),
        ("/venv/bin/gunicorn backend.wsgi", "downbeat web"),
        ("manage.py run_scheduler --once", "downbeat run_scheduler"),
        ("/venv/lib/django/__main__.py migrate", "downbeat migrate"),
        ("manage.py", "downbeat manage.py"),
        ("/venv/lib/celery/__main__.py -A backend beat --scheduler=x", "downbeat celery beat"),
        ("/venv/bin/celery --app backend worker -Q slow", "downbeat celery worker"),
        ("/venv/bin/celery --app backend inspect", "downbeat celery"),
        ("/venv/bin/pytest tests", "downbeat pytest"),
        ("", "downbeat"),
    ],
)
def test_each_process_has_a_name_in_the_database(arguments, name):
    assert program_name(arguments.split(" ")) == name


@pytest.mark.parametrize(
    ("url", "environment", "name"),
    [("", {}, "downbeat shell"), ("", {"PGAPPNAME": "mine"}, "mine"), ("?application_name=url", {}, "url")],
)
def test_a_name_that_the_operator_gives_counts_before_the_programs(url, environment, name):
    from django.db import connection

    parts = connection.settings_dict
    password = quote(parts["PASSWORD"], safe="")
    address = f"{quote(parts['USER'], safe='')}:{password}@{quote(parts['HOST'], safe='')}:{parts['PORT'] or 5432}"
    said = (
        "from django.db import connection as c; u = c.cursor(); u.execute('SHOW application_name'); print(u.fetchone())"
    )
    done = subprocess.run(
        [sys.executable, str(ROOT / "manage.py"), "shell", "-c", said],
        env=os.environ | environment | {"DATABASE_URL": f"postgres://{address}/postgres{url}"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert f"('{name}',)" in done.stdout, done.stderr
