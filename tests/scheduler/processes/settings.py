"""The project's settings with short leases, so that a killed worker's work comes back soon."""

from backend.settings import *  # noqa: F403

PG_QUEUE = {"LEASE_SECONDS": 4, "RENEW_SECONDS": 1, "REAP_SECONDS": 1, "MAX_ATTEMPTS": 20}
