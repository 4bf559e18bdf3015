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
    password: str
    token: str
    """For `Authorization: Token ...`."""


def known_password(data_dir: Path) -> str:
    """The password of the last start, or a new one for the first."""
    try:
        return str(json.loads((data_dir / CREDENTIALS).read_text())["password"])
    except (OSError, ValueError, KeyError, TypeError):
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


def parse_seeded_user(output: str) -> tuple[str, str]:
    """Username and token out of what `manage.py seed_demo --json` printed: its last line that is a JSON object.

    Raises: StandaloneError when there is none.
    """
    for line in reversed(output.splitlines()):
        try:
            user = json.loads(line)
            return str(user["username"]), str(user["token"])
        except (ValueError, KeyError, TypeError):
            continue
    raise StandaloneError(f"expected `seed_demo --json` to print username and token as JSON, got:\n{output[-2000:]}")
