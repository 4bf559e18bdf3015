"""The project's settings for the processes of the proof: its task, its broker, short leases.

`PROOF_BEAT_MODE` is what a Beat of our class does besides sending.
"""

from __future__ import annotations

import os

from backend.settings import *  # noqa: F403 - a settings module takes all of the other one

INSTALLED_APPS = [*INSTALLED_APPS, "tests.proof"]  # noqa: F405
CELERY_BROKER_TRANSPORT = "tests.proof.broker:Transport"
# A killed worker's work comes back soon.
PG_QUEUE = {"LEASE_SECONDS": 4, "RENEW_SECONDS": 1, "REAP_SECONDS": 1, "MAX_ATTEMPTS": 20}
SCHEDULER = {"BEAT_MODE": os.environ.get("PROOF_BEAT_MODE", "observe")}
