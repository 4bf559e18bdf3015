"""Creates a data directory: complete or not at all, with password authentication only."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from dataclasses import replace
from pathlib import Path

from backend.standalone.account import Account, initdb_account, is_root, server_account
from backend.standalone.errors import PostgresStartFailed
from backend.standalone.placement import Cluster, make_passable, new_cluster

# Loopback TCP with a password is the only way in: no socket file, no `trust`, no `peer`.
HOST_RULES = """\
# TYPE  DATABASE     USER  ADDRESS       METHOD
host    all          all   127.0.0.1/32  scram-sha-256
host    replication  all   127.0.0.1/32  scram-sha-256
"""
ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}


def create_data_directory(cluster: Cluster, programs: Path, *, major: int, sync: bool) -> None:
    """Run `initdb` beside the final place, hand the files to the server's account, and rename.

    `sync` False leaves the files to the operating system's own time: for clusters that a crash may destroy.

    Raises: PostgresStartFailed with what `initdb` said.
    """
    # PostgreSQL's own C.UTF-8 (since 17) needs no locale of the system, and folds the case of every letter.
    options = ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"] if major >= 17 else []
    if not sync:
        options.append("--no-sync")
    for leftover in cluster.folder.glob(".new-*"):  # of an interrupted start
        shutil.rmtree(leftover, ignore_errors=True)
    staging = Path(tempfile.mkdtemp(dir=cluster.folder, prefix=".new-"))
    try:
        borrowed = initdb_account() if is_root() else None
        data = _run_initdb(cluster, programs, staging, borrowed, options)
        if borrowed:
            _hand_over(data, server_account())
        (data / "pg_hba.conf").write_text(HOST_RULES)
        os.rename(data, cluster.data)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def copy_data_directory(cluster: Cluster, programs: Path, template: Path, *, major: int) -> str:
    """Copy a data directory that was made for this purpose once; the superuser's password that it was made with.

    For clusters that a crash of the machine may destroy: it is some times faster than `initdb`.
    """
    password = template / "password"
    if not password.exists():
        _make_template(template, programs, major)
    staging = Path(tempfile.mkdtemp(dir=cluster.folder, prefix=".new-"))
    try:
        subprocess.run(["cp", "-a", template / "data", staging / "data"], check=True, capture_output=True, text=True)
        (staging / "data" / "pg_hba.conf").write_text(HOST_RULES)  # the template may be of an older release
        os.rename(staging / "data", cluster.data)
    except subprocess.CalledProcessError as error:
        raise PostgresStartFailed(
            f"cannot copy {template} to {cluster.data} ({free_space(cluster.folder)}): {error.stderr.strip()}"
        ) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return password.read_text()


def _make_template(template: Path, programs: Path, major: int) -> None:
    make_passable(template.parent)
    staging = Path(tempfile.mkdtemp(dir=template.parent, prefix=".staging-"))
    staging.chmod(0o711)
    try:
        made = replace(new_cluster(staging, ephemeral=True), folder=staging)
        create_data_directory(made, programs, major=major, sync=False)
        password = os.open(staging / "password", os.O_WRONLY | os.O_CREAT, 0o600)
        with open(password, "w") as file:
            file.write(made.admin_password)
        os.rename(staging, template)
    except OSError:  # another process was first
        if not (template / "password").exists():
            raise
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _run_initdb(cluster: Cluster, programs: Path, staging: Path, borrowed: Account | None, options: list[str]) -> Path:
    staging.chmod(0o711)
    data, password = staging / "data", staging / "password"
    data.mkdir(mode=0o700)
    password.touch(mode=0o600)
    password.write_text(cluster.admin_password)
    if borrowed:
        os.chown(data, borrowed.uid, borrowed.gid)
        os.chown(password, borrowed.uid, borrowed.gid)
    command = [
        str(programs / "initdb"), f"--pgdata={data}", "--username=postgres", f"--pwfile={password}",
        "--auth=scram-sha-256", "--encoding=UTF8", "--no-locale", "--no-instructions", *options,
    ]  # fmt: skip
    finished = subprocess.run(
        command,
        cwd=staging,
        env=ENVIRONMENT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        **(borrowed.popen_options() if borrowed else {}),
    )
    if finished.returncode:
        raise PostgresStartFailed(
            f"initdb could not create {cluster.data} (exit code {finished.returncode}, "
            f"{free_space(cluster.folder)}). It said:\n{finished.stdout.strip()}"
        )
    return data


def free_space(path: Path) -> str:
    """The free space at a place, for messages: a full disk is the usual reason of a failed start."""
    return f"{shutil.disk_usage(path).free // 2**20} MiB free there"


def _hand_over(data: Path, account: Account) -> None:
    """Give every file to the server's account, having first shut out the account that made them.

    A file with a second name could be one that the borrowed account linked in, so it is refused.
    """
    os.chown(data, 0, 0)
    for folder, folders, files in os.walk(data):
        for path in (Path(folder, name) for name in (*folders, *files)):
            status = path.lstat()
            if path.is_file() and status.st_nlink != 1:
                raise PostgresStartFailed(f"{path} has {status.st_nlink} names where initdb makes one; start again.")
            os.lchown(path, account.uid, account.gid)
    os.chown(data, account.uid, account.gid)
