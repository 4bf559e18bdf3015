#!/usr/bin/env python
"""Django's command-line utility for this project."""

import gc
import os
import sys


def main() -> None:
    """Run administrative tasks."""
    gc.set_threshold(100_000)  # what a start loads is no garbage, and to look for some takes a fifth of its time
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "backend.settings")
    from django.core.management import execute_from_command_line

    execute_from_command_line(sys.argv)


if __name__ == "__main__":
    main()
