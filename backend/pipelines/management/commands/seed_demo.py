"""`manage.py seed_demo`: demo schedules, a pipeline with real work, and a user to look at them with."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from backend.pipelines import demo


class Command(BaseCommand):
    """Safe to repeat: the demo is made once for each database, and what was deleted of it stays deleted."""

    help = (
        "Make the demo's schedules, its pipeline, and a user with an API token: admin, or demo where there is an admin "
        "already. Once for each database: a second time makes nothing and brings nothing back. DOWNBEAT_ADMIN_PASSWORD "
        "becomes the password of the demo's own user. Exit codes: 0 done, 1 unexpected error."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """How to answer, and what not to touch."""
        parser.add_argument(
            "--json", action="store_true", help='print {"username": …, "token": …, "has_password": …}; null: no user'
        )
        parser.add_argument(
            "--keep-password", action="store_true", help="DOWNBEAT_ADMIN_PASSWORD is for a new user only"
        )
        parser.add_argument(
            "--with-beat", action="store_true", help="also the schedules that a running Celery Beat fires; once, too"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Make the demo if it was never made, and say who may log in."""
        user = demo.seed(
            os.environ.get("DOWNBEAT_ADMIN_PASSWORD") or None,
            keep_password=bool(options["keep_password"]),
            with_beat=bool(options["with_beat"]),
        )
        if options["json"]:
            self.stdout.write(json.dumps(asdict(user) if user else None))
            return
        self.stdout.write(f"Demo is in place, or was: {len(demo.SCHEDULES)} schedules and a pipeline.")
        if user is None:
            self.stdout.write("Its user was deleted. Log in as another, or: manage.py createsuperuser")
            return
        self.stdout.write(f"User {user.username}, API token {user.token}")
        if not user.has_password:
            self.stdout.write(
                f"Set its password with DOWNBEAT_ADMIN_PASSWORD, or: manage.py changepassword {user.username}"
            )
