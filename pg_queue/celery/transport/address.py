"""Where a broker's URL leads: a store in PostgreSQL, by the alias of a Django database, and the transport's options."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from django.db import connections

from pg_queue.celery.transport.project import has_project
from pg_queue.errors import Configuration
from pg_queue.settings import QueueSettings, StoreSettings, direct_alias, queue_settings

SCHEME = "downbeat"
_FORMS = "downbeat://, downbeat://STORE?namespace=NAME or downbeat+postgresql://user@host:5432/database"
_OWN_QUERY = {"namespace"}
_STRATEGIES = ("round_robin", "priority")


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """`broker_transport_options`, with their defaults. Durations are in seconds."""

    namespace: str | None = None
    """The tenant whose messages are seen; None: what the URL says, else the store's own."""
    visibility_timeout: float | None = None
    """After so long without a sign of life from who took it, a message is handed over again; renewed while a worker
    holds it, however long the task takes. None: `PG_QUEUE["LEASE_SECONDS"]`."""
    polling_interval: float | None = None
    """Longest wait of an idle consumer; NOTIFY only shortens it. None: `PG_QUEUE["POLL_SECONDS"]`."""
    max_deliveries: int = 32767
    """How often a message is handed over whose workers vanish before they acknowledge it; then it is a dead letter."""
    max_message_bytes: int = 10 * 1024 * 1024
    """Larger ones are refused where they are published."""
    durable_acks: bool = False
    """Wait for the disk at each acknowledgement. Without, a crash of the server undoes those of its last half second,
    and their messages are handed over again."""
    queue_order_strategy: str = "round_robin"
    """`round_robin`: the queues of a consumer take turns; `priority`: one after the other, as given."""

    def __post_init__(self) -> None:
        for name in ("visibility_timeout", "polling_interval"):
            if (value := getattr(self, name)) is not None and not (_is_number(value) and 0 < value <= 366 * 86400):
                raise _wrong(name, "a number of seconds above 0", value)
        for name, most in (("max_deliveries", 32767), ("max_message_bytes", 2**28)):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= most:
                raise _wrong(name, f"a whole number from 1 to {most}", value)
        if self.queue_order_strategy not in _STRATEGIES:
            raise _wrong("queue_order_strategy", f"one of {', '.join(_STRATEGIES)}", self.queue_order_strategy)
        if not isinstance(self.durable_acks, bool):
            raise _wrong("durable_acks", "True or False", self.durable_acks)


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """A place, ready to be opened."""

    conf: QueueSettings
    place: StoreSettings
    direct: str
    """Alias of a connection on which LISTEN works."""
    options: Options

    @property
    def alias(self) -> str:
        """Alias of the Django database."""
        return self.place.database

    @property
    def lease_seconds(self) -> float:
        """How long a message is held without renewal."""
        return self.options.visibility_timeout or self.conf.lease_seconds

    @property
    def renew_seconds(self) -> float:
        """How often that is renewed."""
        return min(self.conf.renew_seconds, self.lease_seconds / 3)

    @property
    def poll_seconds(self) -> float:
        """Longest wait of an idle consumer."""
        return self.options.polling_interval or self.conf.poll_seconds


def resolve(url: str, transport_options: Mapping[str, Any], *, connect_timeout: float | None = None) -> Address:
    """The place that a broker's URL means.

    Options of other transports (kombu and Celery hand over all that are set) are ignored.
    Raises: Configuration, saying which part is wrong.
    """
    known = {one.name for one in fields(Options)}
    options = Options(**{name: value for name, value in transport_options.items() if name in known})
    parts = urlsplit(url if "://" in url else f"{url}://")
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    namespace = query.get("namespace") if options.namespace is None else options.namespace
    if parts.scheme in {"postgresql", "postgres"}:
        address = _by_server(url, namespace, options, connect_timeout)
    elif parts.scheme == SCHEME and parts.path in {"", "/"} and set(query) <= _OWN_QUERY:
        address = _by_alias(unquote(parts.netloc), namespace, options)
    else:
        raise Configuration(f"broker_url: expected {_FORMS}, got: {_shown(url)!r}")
    if (vendor := connections[address.alias].vendor) != "postgresql":
        raise Configuration(f"broker_url: expected a store in PostgreSQL, got: {_shown(url)!r}, which is in {vendor}")
    return address


def _by_alias(alias: str, namespace: str | None, options: Options) -> Address:
    if not has_project():
        raise Configuration(
            "broker_url: expected Django's settings for downbeat://, got: no DJANGO_SETTINGS_MODULE. Set it, or name "
            "the database: downbeat+postgresql://user@host:5432/database"
        )
    conf = queue_settings()
    alias = alias or "default"
    if alias not in conf.places:
        known = ", ".join(sorted(conf.places))
        raise Configuration(f"broker_url: expected a store of PG_QUEUE['STORES'] ({known}), got: {alias!r}")
    place = conf.places[alias]
    if place.url or (place.backend and not place.backend.endswith(("postgres", "PostgresStore"))):
        raise Configuration(f"broker_url: expected a store in PostgreSQL, got: {alias!r}, whose backend is another")
    direct = direct_alias() if place.database == conf.database else place.database
    return Address(conf=conf, place=_within(place, namespace), direct=direct, options=options)


def _by_server(url: str, namespace: str | None, options: Options, connect_timeout: float | None) -> Address:
    """On a Django database of its own alias, whether or not the program has a Django project."""
    alias = _register(url, connect_timeout)
    conf = queue_settings()
    place = StoreSettings(alias=alias, database=alias)
    return Address(conf=conf, place=_within(place, namespace), direct=alias, options=options)


def _register(url: str, connect_timeout: float | None) -> str:
    """The alias of a database by its URL, which is added to Django's."""
    alias = f"downbeat-{hashlib.sha256(url.encode()).hexdigest()[:12]}"
    if alias in connections.settings:
        return alias
    parts = urlsplit(url)
    options = {name: value for name, value in parse_qsl(parts.query) if name not in _OWN_QUERY}
    if connect_timeout:
        options.setdefault("connect_timeout", str(max(2, int(connect_timeout))))
    try:
        port = parts.port
    except ValueError as error:
        raise Configuration(f"broker_url: expected a port number, got: {_shown(url)!r} ({error})") from error
    if not parts.path.strip("/"):
        raise Configuration(f"broker_url: expected {_FORMS}, got: {_shown(url)!r}, which names no database")
    given = {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": unquote(parts.path.lstrip("/")),
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
        "HOST": unquote(parts.hostname or ""),
        "PORT": str(port or ""),
        "CONN_MAX_AGE": None,
        "OPTIONS": options,
    }
    connections.settings[alias] = connections.configure_settings({"default": {}, alias: given})[alias]
    return alias


def _within(place: StoreSettings, namespace: str | None) -> StoreSettings:
    return place if namespace is None else place.within(namespace)


def _shown(url: str) -> str:
    """The URL without its password."""
    parts = urlsplit(url)
    return url.replace(f":{parts.password}@", ":**@") if parts.password else url


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _wrong(name: str, expected: str, got: object) -> Configuration:
    return Configuration(f"broker_transport_options[{name!r}]: expected {expected}, got: {got!r}")
