"""`manage.py seed_demo`: demo schedules, a pipeline with real work, and a user to look at them with."""

from __future__ import annotations

import json
import os
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from backend.pipelines import demo


class Command(BaseCommand):
    """Safe to repeat: what exists is left as it is, except the password when one is given."""

    help = (
        "Make the demo's schedules, its pipeline, and the user admin with an API token. Safe to repeat. "
        "DOWNBEAT_ADMIN_PASSWORD sets the user's password. Exit codes: 0 done, 1 unexpected error."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """The one option."""
        parser.add_argument("--json", action="store_true", help='print {"username": …, "token": …}')

    def handle(self, *args: Any, **options: Any) -> None:
        """Make what is missing, and say who may log in."""
        password = os.environ.get("DOWNBEAT_ADMIN_PASSWORD") or None
        username, token = demo.seed(password)
        if options["json"]:
            self.stdout.write(json.dumps({"username": username, "token": token}))
            return
        self.stdout.write(f"Demo is in place: {len(demo.SCHEDULES)} schedules and a pipeline.")
        self.stdout.write(f"User {username}, API token {token}")
        if password is None:
            self.stdout.write("Set its password with DOWNBEAT_ADMIN_PASSWORD, or: manage.py changepassword admin")
