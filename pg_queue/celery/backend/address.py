"""Where results are kept, by the URL of `result_backend`: in a Django project's database, or in one named by libpq."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

import psycopg
from celery.exceptions import ImproperlyConfigured
from django.conf import settings as django_settings
from psycopg.conninfo import conninfo_to_dict

from pg_queue.errors import Configuration, DirectConnectionRequired
from pg_queue.session import Session, connection_parameters, direct_connection, is_shared, plain_connection
from pg_queue.settings import NAMESPACE_RULE, QueueSettings, direct_alias, queue_settings

NAME, LISTENER_NAME = "downbeat celery results", "downbeat celery results listen"
OWN_KEYS = {"namespace", "max_result_bytes"}
EXPECTED = "'downbeat://[alias of PG_QUEUE[\"STORES\"]]' or 'downbeat+postgresql://user@host/database'"
_NAMESPACE = re.compile(r"[A-Za-z0-9._:-]{0,64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """A database, a namespace in it, and how to get there."""

    namespace: str
    max_bytes: int
    """Bound on a result as it is stored."""
    connect: Callable[[], Session] = field(repr=False)
    """Opens a session for statements. It may go through a proxy that shares sessions."""
    connect_directly: Callable[[], Session] = field(repr=False)
    """Opens one for LISTEN. Raises: DirectConnectionRequired."""
    alias: str | None = None
    """The Django database; None: it is named by the URL."""


def parse_address(url: str) -> Address:
    """The place that `url` names: `downbeat://…`, or `postgresql://…` as Celery hands over `downbeat+postgresql://…`.

    Raises: ImproperlyConfigured, with the part, what was expected and what was got.
    """
    parts = urlsplit(url)
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    try:
        if parts.scheme == "downbeat":
            return _of_django(parts.netloc, parts.path, options)
        if parts.scheme in {"postgresql", "postgres"}:
            return _of_url(url, options)
    except (Configuration, psycopg.ProgrammingError) as error:
        raise ImproperlyConfigured(f"result_backend: {error}") from error
    raise ImproperlyConfigured(f"result_backend: expected {EXPECTED}, got: the scheme {parts.scheme!r}")


def _of_django(alias: str, path: str, options: Mapping[str, str]) -> Address:
    if path.strip("/"):
        raise ImproperlyConfigured(f"result_backend: expected {EXPECTED}, got: the path {path!r}")
    if unknown := sorted(set(options) - OWN_KEYS):
        raise ImproperlyConfigured(f"result_backend: expected options among {_names(OWN_KEYS)}, got: {unknown[0]!r}")
    if not _has_project():
        raise ImproperlyConfigured(
            "result_backend: expected Django's settings for downbeat://, got: none. Set DJANGO_SETTINGS_MODULE, or "
            "name the database: downbeat+postgresql://user@host:5432/database"
        )
    conf = queue_settings()
    alias = alias or "default"
    if alias not in conf.places:
        known = ", ".join(sorted(conf.places))
        raise ImproperlyConfigured(f"result_backend: expected an alias of PG_QUEUE['STORES'] ({known}), got: {alias!r}")
    place = conf.places[alias]
    if place.backend not in {"", "postgres"}:
        raise ImproperlyConfigured(
            f"result_backend: expected a store in PostgreSQL, got: {alias!r}, whose backend is {place.backend!r}. "
            "Celery's results are kept in PostgreSQL only; with another store, use a result backend of Celery's own"
        )
    database = place.database
    _ = connection_parameters(database)  # says so now where it is another database than PostgreSQL
    direct = direct_alias() if database == conf.database else database
    return Address(
        namespace=_namespace(options.get("namespace", place.namespace)),
        max_bytes=_max_bytes(options, conf),
        connect=lambda: plain_connection(NAME, alias=database),
        connect_directly=lambda: direct_connection(LISTENER_NAME, alias=direct),
        alias=database,
    )


def _has_project() -> bool:
    """Also false for the settings that the transport makes for a program without a Django project."""
    return bool((django_settings.configured or os.environ.get("DJANGO_SETTINGS_MODULE")) and django_settings.DATABASES)


def _of_url(url: str, options: Mapping[str, str]) -> Address:
    libpq = urlencode({key: value for key, value in options.items() if key not in OWN_KEYS}, quote_via=quote)
    parameters = conninfo_to_dict(urlunsplit(urlsplit(url)._replace(query=libpq)))
    return Address(
        namespace=_namespace(options.get("namespace", "")),
        max_bytes=_max_bytes(options, QueueSettings()),
        connect=lambda: _session(parameters, NAME),
        connect_directly=lambda: _direct_session(parameters),
    )


def _session(parameters: Mapping[str, Any], name: str) -> Session:
    named = {"connect_timeout": 5, "application_name": name, **parameters}
    return psycopg.connect(**named, autocommit=True, prepare_threshold=None)


def _direct_session(parameters: Mapping[str, Any]) -> Session:
    session = _session(parameters, LISTENER_NAME)
    try:
        if is_shared(session, parameters):
            raise DirectConnectionRequired(
                "result_backend: expected a direct connection to PostgreSQL, got: a proxy that shares sessions between "
                "clients (PgBouncer in transaction or statement mode), where LISTEN cannot work"
            )
    except BaseException:
        session.close()
        raise
    return session


def _namespace(name: str) -> str:
    if not _NAMESPACE.fullmatch(name):
        raise ImproperlyConfigured(f"result_backend: expected a namespace of {NAMESPACE_RULE}, got: {name!r}")
    return name


def _max_bytes(options: Mapping[str, str], conf: QueueSettings) -> int:
    text = options.get("max_result_bytes")
    if text is None:
        return conf.max_result_bytes
    if not text.isdecimal() or not 0 < int(text) < 2**30:
        raise ImproperlyConfigured(
            f"result_backend: expected max_result_bytes to be a whole number above 0, below {2**30}, got: {text!r}"
        )
    return int(text)


def _names(names: set[str]) -> str:
    return ", ".join(sorted(names))
