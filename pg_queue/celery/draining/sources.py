"""Which source a URL means."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kombu import Connection
from kombu.utils.url import sanitize_url

from pg_queue.celery.draining.rabbitmq import RabbitSource
from pg_queue.celery.draining.redis import RedisSource
from pg_queue.celery.draining.source import BrokerUnavailable, Source
from pg_queue.errors import Configuration

PATIENCE_SECONDS = 30
"""How long a broker may take to answer. Without it, one that is frozen holds us for ever."""
_REDIS, _RABBITMQ = ("redis", "rediss", "sentinel"), ("amqp", "amqps", "pyamqp")
_PATIENCE: Mapping[str, Mapping[str, Any]] = {
    "amqp": {"read_timeout": PATIENCE_SECONDS, "write_timeout": PATIENCE_SECONDS},
    "redis": {"socket_timeout": PATIENCE_SECONDS, "socket_connect_timeout": PATIENCE_SECONDS},
}


def open_source(url: str, options: Mapping[str, Any], *, exchanges: Mapping[str, str]) -> Source:
    """Connect to the broker at kombu's `url`, with its transport's `options`; `exchanges` are the types of the app's.

    Raises: Configuration where it is none from which messages can be drained; BrokerUnavailable.
    """
    scheme = url.partition("://")[0].partition("+")[0]
    if "://" not in url or scheme not in (*_REDIS, *_RABBITMQ):
        schemes = ", ".join(f"{one}://" for one in (*_REDIS, *_RABBITMQ))
        raise Configuration(f"--from: expected the URL of a broker ({schemes}), got: {_scheme_of(url)}")
    family = "redis" if scheme in _REDIS else "amqp"
    try:
        connection = Connection(url, transport_options={**_PATIENCE[family], **options}, connect_timeout=10)
        return RedisSource(connection, exchanges) if family == "redis" else RabbitSource(connection)
    except BrokerUnavailable:
        raise
    except (ImportError, ValueError, TypeError, KeyError) as error:  # a driver that is missing, an option that is wrong
        raise Configuration(f"--from: expected a broker that kombu can open, got: {error}") from error


def shown_url(url: str) -> str:
    """The URL without its password."""
    return str(sanitize_url(url))


def _scheme_of(url: str) -> str:
    """As much of a URL as may be shown: the rest may be a password."""
    return f"{url.partition('://')[0]}://…" if "://" in url else "no URL"
