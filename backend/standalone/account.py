"""Which account a server runs under when root starts it: PostgreSQL refuses root.

No user is created and no existing one is shared. The server runs under a numeric uid of its own that has no entry in
the user database (`postgres` needs none), so no login, no daemon and no `nobody` process of somebody else can read its
files or signal it. Only `initdb` insists on an entry: it borrows, for its second of work, an account that no process
runs as, and the files are taken away from that account before a server sees them.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from backend.standalone.errors import PostgresUnavailable

# "Unused" in systemd's table of uid ranges (systemd.io/UIDS-GIDS), so neither a distribution nor DynamicUser= hands
# them out.
SERVER_UIDS = range(60718, 61184)


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """A uid and its gid of the same duty."""

    uid: int
    gid: int

    def popen_options(self) -> dict[str, Any]:
        """Arguments of `subprocess.Popen` that drop to this account, with no supplementary group."""
        return {"user": self.uid, "group": self.gid, "extra_groups": []}


def is_root() -> bool:
    """True when this process may, and must, run the server under another account."""
    return os.geteuid() == 0


def server_account() -> Account:
    """The account for a new server: a mapped uid with no entry in the user database.

    Raises: PostgresUnavailable when this user namespace maps no such uid.
    """
    mapped = _mapped_ids("uid_map"), _mapped_ids("gid_map")
    for uid in SERVER_UIDS:
        if all(_contains(ranges, uid) for ranges in mapped) and not _has_entry(uid):
            return Account(uid=uid, gid=uid)
    raise PostgresUnavailable(
        "PostgreSQL refuses to run as root, and this container maps none of the uids "
        f"{SERVER_UIDS.start}-{SERVER_UIDS.stop - 1}. Run as a normal user, or set DATABASE_URL."
    )


def initdb_account() -> Account:
    """An account with an entry in the user database, best one that no process runs as.

    Raises: PostgresUnavailable when root is the only entry.
    """
    busy = {process.info["uids"].real for process in psutil.process_iter(["uids"]) if process.info["uids"]}
    entries = [entry for entry in pwd.getpwall() if entry.pw_uid != 0 and _is_mapped(entry)]
    if not entries:
        raise PostgresUnavailable(
            "initdb refuses to run as root and needs an account of /etc/passwd, where root is the only one. "
            "Add one (e.g. `nobody`), run as a normal user, or set DATABASE_URL."
        )
    entry = min(entries, key=lambda entry: (entry.pw_uid in busy, not _is_locked(entry)))
    return Account(uid=entry.pw_uid, gid=entry.pw_gid)


def _is_locked(entry: pwd.struct_passwd) -> bool:
    return entry.pw_shell.endswith(("nologin", "false"))


def _has_entry(uid: int) -> bool:
    try:
        pwd.getpwuid(uid)
    except KeyError:
        return False
    return True


def _is_mapped(entry: pwd.struct_passwd) -> bool:
    return _contains(_mapped_ids("uid_map"), entry.pw_uid) and _contains(_mapped_ids("gid_map"), entry.pw_gid)


def _contains(ranges: list[range], number: int) -> bool:
    return any(number in ids for ids in ranges)


def _mapped_ids(name: str) -> list[range]:
    """The ids that exist in this user namespace (user_namespaces(7)); all of them where there is no such file."""
    path = Path("/proc/self") / name
    return list(_parse_map(path.read_text())) if path.exists() else [range(2**32)]


def _parse_map(text: str) -> Iterator[range]:
    for line in text.splitlines():
        inside, _outside, length = (int(field) for field in line.split())
        yield range(inside, inside + length)
