"""A process that does nothing but relay, to be killed: `python -m tests.scheduler.relay.relaying`."""

from __future__ import annotations

import signal
import sys

import django

if __name__ == "__main__":
    django.setup()
    from pg_queue.api import Relay

    Relay().start()
    sys.stdout.write("relaying\n")
    sys.stdout.flush()
    signal.pause()
