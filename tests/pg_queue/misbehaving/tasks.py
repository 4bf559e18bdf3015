"""Tasks that do what tasks must not do, each on purpose."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import celery.exceptions
from celery import shared_task

from pg_queue.api import GiveUp, RetryLater, SoftTimeLimitExceeded, current_context, current_message, task
from pg_queue.worker.child import DONE
from pg_queue.worker.wire import frame


@task("test.add")
def add(left: int, right: int) -> int:
    """Return the sum."""
    return left + right


@task("test.raise", max_attempts=2, retry_backoff_seconds=0)
def fail(text: str = "no") -> None:
    """Raise."""
    raise ValueError(text)


@task("test.give_up")
def give_up() -> None:
    """Ask never to be run again."""
    raise GiveUp("hopeless")


@task("test.retry_later")
def retry_later() -> str:
    """Succeed at the second attempt."""
    message = current_message()
    assert message is not None
    if message.attempts == 1:
        raise RetryLater("not yet", delay_seconds=0.1)
    return f"attempt {message.attempts}"


@task("test.exit", max_attempts=1)
def leave(code: int = 3) -> None:
    """End the process."""
    os._exit(code)


@task("test.sys_exit", max_attempts=1)
def sys_leave() -> None:
    """Raise SystemExit."""
    sys.exit(5)


@task("test.crash", max_attempts=1)
def crash() -> None:
    """Die of a segmentation fault."""
    signal.signal(signal.SIGSEGV, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGSEGV)


@task("test.hang", max_attempts=1, time_limit_seconds=0.5)
def hang() -> None:
    """Never return, and leave a grandchild that does not either and names its message."""
    message = current_message()
    assert message is not None
    subprocess.Popen([sys.executable, "-c", f"import time; time.sleep(600)  # {message.id}"])
    threading.Event().wait()


def _nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


@task("test.returns", max_attempts=5)
def returns(what: str) -> Any:
    """Return what JSON cannot hold, or what is too large."""
    return {
        "datetime": datetime.now(UTC),
        "set": {1, 2},
        "nan": float("nan"),
        "nul": "a\x00b",
        "surrogate": "\ud800",
        "large": "x" * 300_000,
        "deep": _nested(900),
        "huge_number": 10**4000,
        "huger_number": 10**5000,
        "tuple": (1, {"a": (2,)}),
    }[what]


@task("test.forks", max_attempts=1)
def forks() -> str:
    """Fork, and return in both processes."""
    return "child" if os.fork() == 0 else "parent"


@task("test.closes_files", max_attempts=1)
def closes_files() -> None:
    """Close everything, the channel to the worker too."""
    os.closerange(3, 1024)


@task("test.meddles", max_attempts=1)
def meddles() -> None:
    """Write nonsense into every socket."""
    for descriptor in range(3, 1024):
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(descriptor)) as found:
            found.send(b"\x00\x00\x00\x04oops")


@task("test.reports_another", max_attempts=1)
def reports_another() -> None:
    """Report a message that nobody gave it, in good form."""
    for descriptor in range(3, 1024):
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(descriptor)) as found:
            found.send(frame((DONE, uuid.uuid4().int, (None,))))


@task("test.prints")
def prints() -> int:
    """Print more than a pipe holds."""
    for _ in range(3000):
        sys.stdout.write("x" * 99 + "\n")
    return 3000


@task("test.interrupts", max_attempts=1)
def interrupts() -> None:
    """Raise what Ctrl-C raises."""
    raise KeyboardInterrupt("by hand")


@task("test.starts_threads")
def starts_threads() -> str:
    """Leave a thread behind that never ends."""
    threading.Thread(target=threading.Event().wait, daemon=False).start()
    return "started"


@task("test.raises_strangely", max_attempts=1)
def raises_strangely() -> None:
    """Raise what cannot be shown, with characters that PostgreSQL refuses."""

    class Strange(Exception):
        def __str__(self) -> str:
            raise SystemExit("\x00")

    Strange.__qualname__ = "Strange\x00\ud800"
    raise Strange from ValueError("\x00\ud800" + "x" * 1_000_000)


@task("test.retry_never")
def retry_never() -> None:
    """Ask for a retry after the end of time."""
    raise RetryLater(delay_seconds=float("inf"))


@task("test.kill_parent", max_attempts=5, retry_backoff_seconds=0)
def kill_parent() -> str:
    """Kill the process that tasks' processes are forked from, once."""
    message = current_message()
    assert message is not None
    if message.attempts == 1:
        os.kill(os.getppid(), signal.SIGKILL)
        threading.Event().wait(600)
    return f"attempt {message.attempts}"


@task("test.hold")
def hold(folder: str, seconds: float = 600) -> str:
    """Say in `folder` that this attempt has begun, and end when a file `go` is there."""
    message = current_message()
    assert message is not None
    place, deadline = Path(folder), time.monotonic() + seconds
    (place / f"begun-{message.attempts}").write_text(str(os.getpid()))
    while not (place / "go").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    return f"attempt {message.attempts}"


task("test.hold_once", delivery="at_most_once")(hold)


@shared_task(name="test.celery", bind=True)
def celery_task(self: Any, value: str) -> dict[str, Any]:
    """Return what a Celery task sees of its request."""
    request = self.request
    return {
        "value": value,
        "id": request.id,
        "retries": request.retries,
        "queue": request.delivery_info["routing_key"],
        "called_directly": request.called_directly,
    }


@shared_task(name="test.celery_retry", bind=True, max_retries=4)
def celery_retry(self: Any) -> int:
    """Retry once, as Celery tasks do."""
    if self.request.retries == 0:
        raise self.retry(countdown=0.1, exc=RuntimeError("first"))
    return int(self.request.retries)


@task("test.forgets", keep_result=False)
def forgets() -> Any:
    """Return what nobody keeps, not even as JSON."""
    return {1, 2}


@task("test.leaves_nothing", result="none")
def leaves_nothing() -> Any:
    """Return what nobody keeps, and succeed without anybody knowing."""
    return {1, 2}


@shared_task(name="test.celery_forgets", ignore_result=True)
def celery_forgets() -> str:
    """Return what nobody keeps."""
    return "lost"


@task("test.notes", max_attempts=5, retry_backoff_seconds=0)
def notes(folder: str, text: str = "ä") -> dict[str, Any]:
    """Note each execution in `folder`, and return which one it was."""
    message = current_message()
    assert message is not None
    with (Path(folder) / "executions").open("a") as file:
        file.write(f"{message.attempts}\n")
    return {"attempt": message.attempts, "text": text}


@task("test.process")
def process() -> int:
    """Return the process that runs it."""
    return os.getpid()


_KEPT: list[bytearray] = []


@task("test.grows")
def grows(megabytes: int) -> int:
    """Keep so much memory for ever, and return the process that does."""
    _KEPT.append(bytearray(os.urandom(1 << 20)) * megabytes)
    return os.getpid()


@task("test.tidies", max_attempts=1, soft_time_limit_seconds=0.3)
def tidies() -> str:
    """Hang, and tidy up when asked to end."""
    try:
        threading.Event().wait(600)
    except SoftTimeLimitExceeded as asked:
        return str(asked)
    return "never"


@task("test.waits_for_limit", max_attempts=1, soft_time_limit_seconds=0.3)
def waits_for_limit() -> None:
    """Hang, and let the request to end pass."""
    nobody, other = socket.socketpair()
    with nobody, other:
        nobody.recv(1)


@task("test.stays", max_attempts=1, soft_time_limit_seconds=0.2, time_limit_seconds=0.6)
def stays() -> None:
    """Go on although it was asked to end."""
    while True:
        with contextlib.suppress(SoftTimeLimitExceeded):
            threading.Event().wait(600)


@task("test.coroutine", max_attempts=1, soft_time_limit_seconds=0.3)
async def coroutine() -> None:
    """Hang in an event loop."""
    await asyncio.sleep(600)


@shared_task(name="test.celery_tidies", soft_time_limit=0.3, max_retries=0)
def celery_tidies() -> str:
    """Hang, and tidy up as Celery tasks do."""
    try:
        threading.Event().wait(600)
    except celery.exceptions.SoftTimeLimitExceeded:
        return "tidied"
    return "never"


VERSION = Path(os.environ["TEST_VERSION"]).read_text() if "TEST_VERSION" in os.environ else ""
if VERSION == "broken":
    raise ImportError("this version cannot be imported")


@task("test.version")
def version() -> list[Any]:
    """Return the version of this module that its process has loaded, and the process."""
    return [VERSION, os.getpid()]


@task("test.waits")
def waits() -> None:
    """Wait for ever."""
    threading.Event().wait(600)


@task("test.tells")
def tells(folder: str) -> None:
    """Say how far it is a thousand times at once, then hold until told to go."""
    context = current_context()
    assert context is not None
    for number in range(1000):
        context.progress(number, 1000, stage=f"step {number}")
    deadline = time.monotonic() + 60
    while not (Path(folder) / "go").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    context.progress(1, stage="too late to be shown")
