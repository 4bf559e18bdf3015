"""The project's settings for processes that tests start: tasks that misbehave, and queue settings by environment.

`TEST_PG_QUEUE` is a JSON object of keys of `PG_QUEUE`, such as `{"LEASE_SECONDS": 2, "RENEW_SECONDS": 0.5}`, and
`TEST_SCHEDULER` one of keys of `SCHEDULER`. `TEST_DATABASES` is one of further entries of `DATABASES`.
"""

from __future__ import annotations

import json
import os

from backend.settings import *  # noqa: F403 - a settings module takes all of the other one
from tests.services import use_pymysql

INSTALLED_APPS = [*INSTALLED_APPS, "tests.pg_queue.misbehaving"]  # noqa: F405
PG_QUEUE = {**PG_QUEUE, **json.loads(os.environ.get("TEST_PG_QUEUE", "{}"))}  # noqa: F405
SCHEDULER = {**SCHEDULER, **json.loads(os.environ.get("TEST_SCHEDULER", "{}"))}  # noqa: F405
DATABASES = {**DATABASES, **json.loads(os.environ.get("TEST_DATABASES", "{}"))}  # noqa: F405
if any(entry["ENGINE"] == "django.db.backends.mysql" for entry in DATABASES.values()):
    use_pymysql()
