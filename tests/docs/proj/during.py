"""Its settings with Downbeat beside Beat."""

from tests.docs.proj.before import *  # noqa: F403
from tests.docs.proj.before import INSTALLED_APPS as _BEFORE

INSTALLED_APPS = [*_BEFORE, "pg_queue", "scheduler"]
SCHEDULER = {"CLEAN_OCCURRENCES": 3}
