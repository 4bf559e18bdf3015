"""Broker URLs: where each leads, and what is said of one that leads nowhere."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest
from django.db import connection as django_connection
from django.db import connections
from kombu import Connection

from pg_queue.celery.transport.address import resolve
from pg_queue.errors import Configuration
from tests.processes import ROOT

pytestmark = pytest.mark.postgresql("the transport is on PostgreSQL alone")


def test_the_plain_url_is_the_default_store() -> None:
    address = resolve("downbeat://", {})
    assert (address.alias, address.place.namespace) == ("default", "")
    assert (address.lease_seconds, address.poll_seconds) == (60.0, 1.0)


def test_options_of_other_transports_do_no_harm() -> None:
    options = {"visibility_timeout": 300, "socket_timeout": 5, "namespace": "acme", "polling_interval": 2}
    address = resolve("downbeat://default", options)
    assert (address.lease_seconds, address.poll_seconds, address.place.namespace) == (300, 2, "acme")


def test_a_url_with_a_server_is_a_database_of_its_own() -> None:
    url = "postgresql://me:se%40cret@db.example:6543/app?namespace=acme&sslmode=require"
    address = resolve(url, {})
    given = connections.settings[address.alias]
    assert address.place.namespace == "acme"
    assert (given["HOST"], given["PORT"], given["NAME"]) == ("db.example", "6543", "app")
    assert (given["USER"], given["PASSWORD"], given["OPTIONS"]) == ("me", "se@cret", {"sslmode": "require"})
    assert resolve(url, {}).alias == address.alias


@pytest.mark.parametrize(
    ("url", "options", "said"),
    [
        ("downbeat://nowhere", {}, r"expected a store of PG_QUEUE\['STORES'\] \(default\), got: 'nowhere'"),
        ("downbeat://default/db", {}, "broker_url: expected downbeat://"),
        ("downbeat://?lease=3", {}, "broker_url: expected downbeat://"),
        ("downbeat://?namespace=a%20b", {}, "expected 0 to 64 letters"),
        ("postgresql://u:secret@host", {}, r"which names no database"),
        ("postgresql://u:secret@host:none/db", {}, "expected a port number"),
        ("mysql://u@host/db", {}, "broker_url: expected downbeat://"),
        ("downbeat://", {"visibility_timeout": 0}, r"broker_transport_options\['visibility_timeout'\]: expected a num"),
        ("downbeat://", {"polling_interval": "1"}, "polling_interval"),
        ("downbeat://", {"max_deliveries": 40000}, "expected a whole number from 1 to 32767, got: 40000"),
        ("downbeat://", {"queue_order_strategy": "sorted"}, "expected one of round_robin, priority"),
        ("downbeat://", {"durable_acks": "yes"}, "expected True or False"),
    ],
)
def test_a_wrong_url_or_option_is_refused_with_what_was_expected(url: str, options: dict[str, Any], said: str) -> None:
    with pytest.raises(Configuration, match=said) as refused:
        resolve(url, options)
    assert "secret" not in str(refused.value)


def test_a_store_that_is_not_postgresql_is_refused(settings: Any) -> None:
    settings.PG_QUEUE = {"STORES": {"default": {}, "fast": {"BACKEND": "redis", "URL": "redis://localhost"}}}
    with pytest.raises(Configuration, match="expected a store in PostgreSQL, got: 'fast'"):
        resolve("downbeat://fast", {})


def test_a_password_is_not_shown() -> None:
    connection = Connection("downbeat+postgresql://me:secret@db.example/app")
    assert connection.as_uri() == "downbeat+postgresql://me:**@db.example/app"
    assert "secret" in connection.as_uri(include_password=True)


WITHOUT_DJANGO = """
import sys
import pg_queue.celery
from kombu import Connection
with Connection(sys.argv[1]) as connection:
    simple = connection.SimpleQueue("outside")
    simple.put({"hello": "world"})
    message = simple.get(timeout=20)
    print(message.payload)
    message.ack()
    simple.close()
"""


@pytest.mark.processes
@pytest.mark.django_db(transaction=True, available_apps=["pg_queue"])
def test_a_program_without_django_has_the_same_broker_by_its_url() -> None:
    given = django_connection.get_connection_params()
    host, port = given.get("host", "localhost"), given.get("port", "")
    user, password = given.get("user", ""), given.get("password", "")
    credentials = f"{user}:{password}" if password else user
    url = f"downbeat+postgresql://{credentials}@{str(host).replace('/', '%2F')}:{port}/{given['dbname']}"
    env = {name: value for name, value in os.environ.items() if not name.startswith("DJANGO_")}

    def run(url: str) -> subprocess.CompletedProcess[str]:
        argv = [sys.executable, "-c", WITHOUT_DJANGO, url]
        return subprocess.run(argv, env=env, cwd=ROOT, capture_output=True, text=True, timeout=90, check=False)

    done = run(url)
    assert done.stdout.strip() == "{'hello': 'world'}", done.stderr
    refused = run("downbeat://")
    assert "expected Django's settings for downbeat://, got: no DJANGO_SETTINGS_MODULE" in refused.stderr
