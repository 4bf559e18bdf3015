"""Where the embedded PostgreSQL's programs and data lie.

A normal user runs the programs in place and keeps the data in `DATA_DIR/postgres`. When root starts the server, it
runs under an account that may be unable to enter the clone, the virtual environment or DATA_DIR (mode 0700). Nothing of
those is opened up: programs are copied to, and data kept in, a home of its own (`/var/lib/downbeat`), and
`DATA_DIR/postgres.json` says where. Clusters for tests lie in the home too, each with the identity of its owner.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from backend.standalone.account import is_root
from backend.standalone.errors import PostgresUnavailable
from backend.standalone.identity import ProcessIdentity
from backend.standalone.provider import PostgresProvider

HOME_VARIABLE = "DOWNBEAT_POSTGRES_HOME"
RECORD = "postgres.json"
OWNER = "owner.json"
# Of every `cluster_name`: who is connected can tell by it that the server is an embedded one.
CLUSTER_PREFIX = "downbeat-embedded-"
MEMORY = Path("/dev/shm")
"""A file system in memory, on Linux."""
MEMORY_NEEDED = 4 * 2**30
"""Bytes that have to be free there before a cluster for tests is put into it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """One server's place and keys, as `postgres.json` keeps them (mode 0600: it holds the passwords)."""

    folder: Path
    """Holds `data`; its own mode lets the server's account pass and nobody list."""
    name: str
    """PostgreSQL's `cluster_name`: it is in the title of each of its processes, by which they are found again."""
    port: int
    """On 127.0.0.1; kept from start to start while it is free. 0: none chosen yet."""
    password: str
    """Of the role `downbeat`, which owns the database and is no superuser."""
    admin_password: str
    """Of the superuser `postgres`."""
    home: Path
    """The folder that the record lies in. A record that says otherwise was copied or moved."""

    @property
    def data(self) -> Path:
        """PostgreSQL's data directory (mode 0700, owned by the server's account)."""
        return self.folder / "data"

    def url(self, *, database: str = "downbeat", admin: bool = False) -> str:
        """A connection URL for the role `downbeat`, or for the superuser."""
        role, password = ("postgres", self.admin_password) if admin else ("downbeat", self.password)
        return f"postgresql://{role}:{password}@127.0.0.1:{self.port}/{database}"


def new_cluster(home: Path, *, ephemeral: bool) -> Cluster:
    """A cluster that nothing exists of yet, with passwords of its own."""
    name = f"{CLUSTER_PREFIX}{secrets.token_hex(6)}"
    folder = home if ephemeral else home / "postgres"
    if is_root() and not ephemeral:
        folder = server_home() / "clusters" / name
    return Cluster(
        folder=folder,
        name=name,
        port=0,
        password=secrets.token_urlsafe(24),
        admin_password=secrets.token_urlsafe(24),
        home=home,
    )


def read_cluster(home: Path) -> Cluster | None:
    """The cluster whose record lies in `home`; None when there is no record.

    A record that was moved along with its folder is taken over; one that was copied while its original still stands is
    not (two data directories must not share one server), and None is returned.

    Raises: PostgresUnavailable when the record cannot be read back.
    """
    path = home / RECORD
    if not path.exists():
        return None
    try:
        fields = json.loads(path.read_text())
        cluster = Cluster(**{**fields, "folder": Path(fields["folder"]), "home": Path(fields["home"])})
    except (ValueError, TypeError, KeyError) as error:
        raise PostgresUnavailable(
            f"expected {path} as this program wrote it, got: {error}. Restore it, or remove {home} to start anew."
        ) from error
    return cluster if cluster.home == home else _take_over(cluster, home)


def _take_over(cluster: Cluster, home: Path) -> Cluster | None:
    if (cluster.home / RECORD).exists():
        return None
    moved_inside = cluster.folder.is_relative_to(cluster.home)
    folder = home / cluster.folder.relative_to(cluster.home) if moved_inside else cluster.folder
    return replace(cluster, home=home, folder=folder)


def write_cluster(cluster: Cluster) -> None:
    """Write the record, complete or not at all."""
    write_private(cluster.home / RECORD, asdict(cluster))


def write_private(path: Path, fields: dict[str, Any]) -> None:
    """Replace a JSON file atomically with one that only its owner reads (mode 0600)."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w") as file:
            json.dump(fields, file, indent=2, default=str)
            file.write("\n")
        os.replace(temporary, path)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(temporary)
        raise


def make_private_folder(path: Path) -> Path:
    """Create a folder (mode 0700) and its missing parents; an existing one keeps its mode. Returns it resolved."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise PostgresUnavailable(f"cannot create {path}: {error.strerror}. Choose another with DATA_DIR.") from error
    return path.resolve()


def server_home() -> Path:
    """The folder for copies of programs, root's clusters, and clusters for tests; created when absent.

    Root: `/var/lib/downbeat`, or `/var/tmp/downbeat` where that cannot be made. A normal user: `downbeat-<uid>` in the
    folder for temporary files. `DOWNBEAT_POSTGRES_HOME` names another.

    Raises: PostgresUnavailable when there is no folder that only this user can write and, for root, all can pass.
    """
    refusals = []
    for path in _home_candidates():
        refusal = _make_home(path) or _refusal(path)
        if refusal is None:
            return path.resolve()
        refusals.append(f"{path}: {refusal}")
    raise PostgresUnavailable(
        f"no place for the embedded PostgreSQL ({'; '.join(refusals)}). Set {HOME_VARIABLE} to a folder of yours"
        + (" that every account can pass (mode 0711, so with each folder above it)." if is_root() else ".")
    )


def _home_candidates() -> list[Path]:
    if chosen := os.environ.get(HOME_VARIABLE):
        return [Path(chosen)]
    if is_root():
        return [Path("/var/lib/downbeat"), Path("/var/tmp/downbeat")]
    return [Path(tempfile.gettempdir()) / f"downbeat-{os.geteuid()}"]


def _make_home(path: Path) -> str | None:
    """Create the folder, with the mode it needs whatever the umask is; an existing one is left as it is."""
    try:
        if not path.exists():
            path.mkdir(parents=True, exist_ok=True)  # another process may be first
            path.chmod(0o711 if is_root() else 0o700)
    except OSError as error:
        return str(error.strerror)
    return None


def _refusal(path: Path) -> str | None:
    """Why a folder cannot be the home: another user's hand in it would be in our programs and data."""
    status = path.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
        return "not a folder owned by this user"
    if status.st_mode & 0o022:
        return "others can write to it"
    resolved = path.resolve()
    if is_root() and (closed := [str(p) for p in (resolved, *resolved.parents) if not p.stat().st_mode & 0o001]):
        return f"other accounts cannot pass {closed[-1]}"
    return None


def programs_of(provider: PostgresProvider) -> Path:
    """The folder of `initdb` and `postgres` to run: the provider's own, or for root a copy that all can read.

    The copy is made once per provider name, and appears complete or not at all.
    """
    if not is_root() or not provider.trees:
        return provider.root / provider.programs
    copy = server_home() / "programs" / provider.name
    if not copy.exists():
        _copy_trees(provider, copy)
    return copy / provider.programs


def _copy_trees(provider: PostgresProvider, copy: Path) -> None:
    make_passable(copy.parent)
    staging = Path(tempfile.mkdtemp(dir=copy.parent, prefix=".staging-"))
    try:
        for tree in provider.trees:
            shutil.copytree(provider.root / tree, staging / tree, symlinks=True)
        _open_for_reading(staging)
        os.rename(staging, copy)
    except OSError as error:
        shutil.rmtree(staging, ignore_errors=True)
        if not copy.exists():  # else another process was first, with the same files
            raise PostgresUnavailable(f"cannot copy PostgreSQL's programs to {copy}: {error}") from error


def new_ephemeral_home(*, in_memory: bool = False) -> Path:
    """A new folder for a cluster that this process owns and that may be removed once this process is dead.

    `in_memory`: it may be there, where there is room.
    """
    parent = (_memory_homes() if in_memory else None) or _ephemeral_homes()
    home = Path(tempfile.mkdtemp(dir=parent, prefix="pg-"))
    if is_root():
        home.chmod(0o711)
    write_private(home / OWNER, ProcessIdentity.of(os.getpid()).as_record())
    return home


@contextmanager
def sole_remover() -> Iterator[None]:
    """Hold the right to remove orphaned homes, which one process of this machine has at a time; waits for it."""
    with open(_ephemeral_homes() / "lock", "w", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def orphaned_homes() -> list[Path]:
    """The folders of ephemeral clusters whose owner is dead."""
    parents, memory = {_ephemeral_homes()}, _memory_parent()
    if memory.exists() and _refusal(memory) is None:  # there may have been room then; nobody else's hand is in it
        parents.add(memory)
    return [home for parent in parents for home in parent.glob("pg-*") if _is_orphan(home)]


def _ephemeral_homes() -> Path:
    parent = server_home() / "ephemeral"
    make_passable(parent)
    return parent


def _memory_homes() -> Path | None:
    """A folder in memory, where there is plenty: tests make and delete files by the ten thousand.

    None: there is none, or a home was chosen by `DOWNBEAT_POSTGRES_HOME`.
    """
    parent = _memory_parent()
    try:
        if os.environ.get(HOME_VARIABLE) or shutil.disk_usage(MEMORY).free < MEMORY_NEEDED:
            return None
    except OSError:
        return None
    refusal = _make_home(parent) or _refusal(parent)
    return None if refusal else parent


def _memory_parent() -> Path:
    return MEMORY / f"downbeat-{os.geteuid()}"


def _is_orphan(home: Path) -> bool:
    try:
        owner = ProcessIdentity.from_record(json.loads((home / OWNER).read_text()))
    except (OSError, ValueError, KeyError, TypeError):
        # Made, but not yet signed by its owner: give it a minute.
        return home.exists() and time.time() - home.stat().st_mtime > 60
    # A clock that was set since moves our own start, as the system tells it; we live all the same.
    return owner.pid != os.getpid() and owner.process() is None


def make_passable(path: Path) -> None:
    """Create a folder below the home, and the one above it, that every account can pass and only its owner list."""
    for folder in (path.parent, path):
        if not folder.exists():
            folder.mkdir(exist_ok=True)  # another process may be first
            folder.chmod(0o711)


def _open_for_reading(top: Path) -> None:
    """Give a copy the modes that its readers need, whatever the umask and the original's modes were."""
    for folder, _, files in os.walk(top):
        os.chmod(folder, 0o755)
        for name in files:
            path = Path(folder, name)
            if not path.is_symlink():
                path.chmod(0o755 if path.stat().st_mode & 0o100 else 0o644)
