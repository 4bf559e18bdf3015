"""`manage.py` for a scheduler that stands in an election of its own, and so leads beside the leader."""

from __future__ import annotations

import sys

import django

if __name__ == "__main__":
    django.setup()
    from django.core.management import execute_from_command_line

    from scheduler import loop

    loop.ELECTION = "usurper"
    execute_from_command_line(["manage.py", *sys.argv[1:]])
