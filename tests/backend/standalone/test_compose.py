"""`docker-compose.yml` starts what `make run` starts: each command is accepted, each probe has an answer."""

from __future__ import annotations

import re
import subprocess
import sys
from functools import cache
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
import yaml
from psycopg import sql

from backend.standalone.preparation import Options
from backend.standalone.services import Ports, service_specs
from tests.processes import ROOT, OwnPostgresFactory, child_environment

COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
OURS = {name: service for name, service in COMPOSE["services"].items() if name != "postgres"}
ALONE = Options(port=8000, data_dir=ROOT, database_url=None, has_beat=False)
LOCAL = {spec.name: spec for spec in service_specs(ALONE, Ports(web=8000, schedulers=(9101,), worker=9102))}
PATHS = {"/healthz", "/readyz"}
PRODUCTION = (ROOT / "docs/operations/production.md").read_text()
AWKWARD_PASSWORD = "12/b#c?d@e:f%2g[h$i+j='k\" "
CONNECT = """
import django; django.setup()
from django.db import connection
from pg_queue.api import direct_connection
connection.ensure_connection()
direct_connection().close()
"""


@cache
def known_options(*program: str) -> frozenset[str]:
    """The long options that a program's own `--help` lists."""
    finished = subprocess.run(
        [sys.executable, *program, "--help"],
        cwd=ROOT, env=child_environment(None), capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert finished.returncode == 0, finished.stderr
    return frozenset(re.findall(r"--[a-z][a-z-]*", finished.stdout))


def program_and_options(argv: list[str]) -> tuple[tuple[str, ...], list[str]]:
    """A command's program, as `known_options` wants it, and its options without their values."""
    assert argv[0] == "python"
    program = tuple(argv[1:3])
    return program, [argument.partition("=")[0] for argument in argv[3:] if argument.startswith("--")]


def without_place(argv: list[str] | tuple[str, ...]) -> list[str]:
    """A command's arguments without interpreter, folder, addresses and ports."""
    ends = [argument.rsplit("/", 1)[-1] for argument in argv[1:]]
    return [argument for argument in ends if not re.match(r"--(bind|health-port|health-host)=", argument)]


def environment_of(service: dict[str, Any], **given: str) -> dict[str, str]:
    """A service's environment as compose makes it where only `given` is set."""
    return {
        name: re.sub(r"\$\{(\w+):[?-]([^}]*)\}", lambda found: given.get(found[1], found[2]), str(value))
        for name, value in service["environment"].items()
    }


@pytest.mark.parametrize("name", OURS)
def test_every_option_of_a_command_is_one_that_its_program_knows(name: str) -> None:
    program, options = program_and_options(OURS[name]["command"])
    assert set(options) <= known_options(*program)


@pytest.mark.parametrize(("name", "local"), [("web", "web"), ("scheduler", "sched-1"), ("worker", "worker")])
def test_a_service_runs_the_command_of_make_run(name: str, local: str) -> None:
    assert without_place(OURS[name]["command"]) == without_place(LOCAL[local].argv)


@pytest.mark.parametrize("name", ["web", "scheduler", "worker"])
def test_a_probe_asks_the_port_that_the_command_serves(name: str) -> None:
    command = " ".join(OURS[name]["command"])
    port = re.search(r"--(?:bind=[\d.]+:|health-port=)(\d+)", command)
    url = re.search(r"http://[^']+", OURS[name]["healthcheck"]["test"][-1])
    assert port is not None
    assert url is not None
    assert urlsplit(url[0]).port == int(port[1])
    assert urlsplit(url[0]).path in PATHS


def test_two_schedulers_and_several_workers_run() -> None:
    assert OURS["scheduler"]["deploy"]["replicas"] == 2
    assert OURS["worker"]["deploy"]["replicas"] >= 2


def test_nothing_starts_before_the_tables_are_there() -> None:
    assert OURS["migrate"]["depends_on"] == {"postgres": {"condition": "service_healthy"}}
    for name in ("web", "scheduler", "worker"):
        assert OURS[name]["depends_on"] == {"migrate": {"condition": "service_completed_successfully"}}


def test_no_secret_has_a_default() -> None:
    text = (ROOT / "docker-compose.yml").read_text()
    assert set(re.findall(r"\$\{(POSTGRES_PASSWORD|DOWNBEAT_SECRET_KEY)([^}]*)\}", text)) == {
        (name, ":?set it to a long random value") for name in ("POSTGRES_PASSWORD", "DOWNBEAT_SECRET_KEY")
    }


@pytest.mark.processes
@pytest.mark.parametrize("name", OURS)
def test_any_password_lets_a_service_in(name: str, own_postgres: OwnPostgresFactory) -> None:
    server = own_postgres()
    with psycopg.connect(server.admin_url) as session:
        change = sql.SQL("ALTER ROLE downbeat PASSWORD {}").format(sql.Literal(AWKWARD_PASSWORD))
        session.execute(change)
    environment = environment_of(OURS[name], POSTGRES_PASSWORD=AWKWARD_PASSWORD, DOWNBEAT_SECRET_KEY=AWKWARD_PASSWORD)
    environment["DATABASE_URL"] = environment["DATABASE_URL"].replace("@postgres:5432/", f"@127.0.0.1:{server.port}/")
    assert str(server.port) in environment["DATABASE_URL"]
    finished = subprocess.run(
        [sys.executable, "-c", CONNECT],
        cwd=ROOT, env=child_environment(None) | environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert finished.returncode == 0, finished.stderr


def test_the_documented_commands_name_services_and_commands_that_exist() -> None:
    documented = re.findall(r"docker compose (?:exec|run --rm) (\w+) python (manage\.py \w+)", PRODUCTION)
    assert ("web", "manage.py createsuperuser") in documented
    for service, command in documented:
        assert service in OURS
        assert known_options(*command.split())


def test_the_production_page_says_what_each_variable_of_the_compose_file_decides() -> None:
    asked_for = set(re.findall(r"\$\{(\w+)", (ROOT / "docker-compose.yml").read_text()))
    assert not {name for name in asked_for if f"`{name}`" not in PRODUCTION}


def test_a_worker_is_given_the_time_that_its_drain_takes() -> None:
    assert float(OURS["worker"]["stop_grace_period"].removesuffix("s")) >= LOCAL["worker"].stop_seconds


def test_the_image_runs_the_web_process_as_a_user_that_is_not_root() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    user = re.search(r"^USER (\d+):", dockerfile, re.MULTILINE)
    command = re.search(r"^CMD (\[.*\])$", dockerfile, re.MULTILINE)
    assert user is not None
    assert int(user[1]) > 0
    assert command is not None
    assert yaml.safe_load(command[1]) == OURS["web"]["command"]
