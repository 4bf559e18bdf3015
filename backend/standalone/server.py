"""The processes of one PostgreSQL cluster, found by their titles: each carries the cluster's name.

Titles can be read across accounts everywhere; working directories and executables cannot (a container's root has no
CAP_SYS_PTRACE).
"""

from __future__ import annotations

import signal
import time
from contextlib import suppress

import psutil

from backend.standalone.placement import Cluster


def server_processes(cluster: Cluster) -> list[psutil.Process]:
    """All processes of the cluster's server, postmaster first; only those of the account that owns the data.

    A process that was just forked still bears the postmaster's title: the eldest of that title is the postmaster. Where
    the data was removed under the server, its name alone decides.
    """
    uid = cluster.data.stat().st_uid if cluster.data.exists() else None
    found = []
    for process in psutil.process_iter(["name", "cmdline", "uids", "create_time"]):
        is_its_account = process.info["uids"] and uid in (None, process.info["uids"].real)
        if process.info["name"] == "postgres" and is_its_account:
            title = " ".join(process.info["cmdline"] or ())
            if _is_postmaster(cluster, title) or title.startswith(f"postgres: {cluster.name}: "):
                found.append((not _is_postmaster(cluster, title), process.info["create_time"], process))
    return [process for *_, process in sorted(found, key=lambda one: one[:2])]


def postmaster(cluster: Cluster) -> psutil.Process | None:
    """The cluster's postmaster; None when it is gone or a zombie, whatever became of its children."""
    for process in server_processes(cluster):
        with suppress(psutil.NoSuchProcess):
            if process.status() != psutil.STATUS_ZOMBIE and _is_postmaster(cluster, " ".join(process.cmdline())):
                return process
    return None


def _is_postmaster(cluster: Cluster, title: str) -> bool:
    return f"--cluster_name={cluster.name}" in title


def signal_process(process: psutil.Process, number: signal.Signals) -> None:
    """Send a signal, and wake the process in case it is frozen: a stopped process handles nothing but SIGKILL."""
    try:
        process.send_signal(number)
        process.send_signal(signal.SIGCONT)
    except psutil.NoSuchProcess:
        pass


def has_ended(process: psutil.Process, seconds: float) -> bool:
    """Wait at most `seconds` for the end; True after it, also for a zombie that its parent has yet to reap."""
    deadline = time.monotonic() + seconds
    with suppress(psutil.NoSuchProcess):
        while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)
    return True
