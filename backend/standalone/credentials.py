"""The password, token and signing key of one data directory: made once, kept, readable by their owner alone."""

from __future__ import annotations

import json
import secrets
from dataclasses import asdict, dataclass
from pathlib import Path

from backend.standalone.errors import StandaloneError
from backend.standalone.placement import write_private

CREDENTIALS = "credentials.json"
SIGNING_KEY = "secret-key.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """How to log in; what `credentials.json` holds."""

    url: str
    """Of the web process, without a slash at its end."""
    username: str
    """Empty: the demo's user was deleted."""
    password: str
    """Empty: not known here, because somebody has changed it."""
    token: str
    """For `Authorization: Token ...`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SeededUser:
    """What `manage.py seed_demo --json` says of the demo's user."""

    username: str
    token: str
    has_password: bool
    """The password that was given to the command is this user's."""


NOBODY = SeededUser(username="", token="", has_password=False)


def known_password(data_dir: Path) -> str | None:
    """The password of the last start, empty when that did not know it; None: there was no start."""
    try:
        return str(json.loads((data_dir / CREDENTIALS).read_text())["password"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def new_password() -> str:
    """A random one."""
    return secrets.token_urlsafe(12)


def signing_key(data_dir: Path) -> str:
    """Django's SECRET_KEY for this data directory, so that a restart ends no session."""
    path = data_dir / SIGNING_KEY
    if not path.exists():
        write_private(path, {"secret_key": secrets.token_urlsafe(50)})
    return str(json.loads(path.read_text())["secret_key"])


def write_credentials(data_dir: Path, credentials: Credentials) -> Path:
    """Write `credentials.json` (mode 0600); its path."""
    path = data_dir / CREDENTIALS
    write_private(path, asdict(credentials))
    return path


def parse_seeded_user(output: str) -> SeededUser:
    """The user out of what `manage.py seed_demo --json` printed: its last line that is JSON. Null: `NOBODY`.

    Raises: StandaloneError when there is none.
    """
    for line in reversed(output.splitlines()):
        try:
            user = json.loads(line)
            return SeededUser(**user) if user is not None else NOBODY
        except (ValueError, TypeError):
            continue
    raise StandaloneError(f"expected `seed_demo --json` to print the demo's user as JSON, got:\n{output[-2000:]}")
