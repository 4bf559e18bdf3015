"""No connection to SQLite crosses a fork."""

from __future__ import annotations

import sys

from tests.processes import Manage, SqliteFile

FORK = """
import os, threading, django
django.setup()
from django.db import connection, connections, transaction
from pg_queue.domain import NewMessage
from pg_queue.storage import store

seen, may_end = threading.Event(), threading.Event()

def look():
    store().depths()
    seen.set()
    may_end.wait()

threading.Thread(target=look, daemon=True).start()
seen.wait()
path = connection.settings_dict["NAME"]
with transaction.atomic():
    store().enqueue([NewMessage(task="parent")])
    raw = connection.connection
    pid = os.fork()
    if pid == 0:
        assert connection.connection is None and not connection.in_atomic_block
        assert store().depths() == [], "it sees what the parent has not committed"
        assert connection.connection is not raw
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    print("child", status)
    assert connection.connection is raw
print("waiting", [depth.waiting for depth in store().depths()])
"""


def test_a_forked_process_connects_anew_and_its_parent_goes_on(sqlite_file: SqliteFile, manage: Manage) -> None:
    done = manage.launch([sys.executable, "-c", FORK], url=sqlite_file.url)
    assert done.wait() == 0, done.output
    assert done.stdout.splitlines() == ["child 0", "waiting [1]"], done.output
