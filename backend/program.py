"""What a process of the service calls itself in PostgreSQL, for whoever reads `pg_stat_activity` or a catch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePath

_WRAPPERS = {"manage", "django", "django-admin"}
_CELERY = ("beat", "worker")


def program_name(argv: Sequence[str]) -> str:
    """Such as `downbeat web`, `downbeat run_scheduler` or `downbeat celery beat`, of the process's arguments."""
    path = PurePath(argv[0] if argv else "python")
    program = path.parent.name if path.stem == "__main__" else path.stem  # the former: `python -m program`
    arguments = [argument for argument in argv[1:] if not argument.startswith("-")]
    if program == "gunicorn":
        return "downbeat web"
    if program in _WRAPPERS:
        return f"downbeat {arguments[0] if arguments else 'manage.py'}"
    if program == "celery":
        return f"downbeat celery {next((one for one in arguments if one in _CELERY), '')}".rstrip()
    return f"downbeat {program}".rstrip()
