"""Celery's tasks, run natively; and Celery itself on the queue's tables.

The only importer of celery in this app; everything else works without it. Importing this package makes the broker URLs
`downbeat://` and `downbeat+postgresql://` known to kombu; a process that has Celery loaded when Django's apps are, and
Celery's own command, import it themselves.
"""

from __future__ import annotations

from contextlib import suppress

SCHEMES = ("downbeat",)


def register() -> None:
    """Make our broker URLs known to kombu, where it is installed. Imports nothing of the transport yet."""
    with suppress(ImportError):
        from kombu.transport import TRANSPORT_ALIASES

        TRANSPORT_ALIASES.update(dict.fromkeys(SCHEMES, "pg_queue.celery.transport:Transport"))


register()
