"""What every long-running command shares: exit codes, signals, the checks before the start, its lines on stdout."""

from __future__ import annotations

import errno
import gc
import json
import logging
import os
import select
import signal
import socket
import sys
from argparse import ArgumentTypeError
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from types import FrameType, TracebackType
from typing import Any, Generic, Literal, Self, TypeVar

from django.core.checks.registry import registry
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import InterfaceError, OperationalError

from pg_queue.errors import (
    CapabilityMissing,
    Configuration,
    DirectConnectionRequired,
    DutyFailed,
    QueueError,
    StoreUnavailable,
)
from pg_queue.health import HealthServer, Pulse, missing_migrations
from pg_queue.ports import QueueStore
from pg_queue.settings import LAST_PORT, queue_settings
from pg_queue.storage.capable import database_label

logger = logging.getLogger(__name__)
COLLECT_AFTER = (1000, 10, 10)
"""When a service looks for garbage, see `gc.set_threshold`: `manage.py` does so more rarely while it loads."""
T = TypeVar("T")


class ExitCode(IntEnum):
    """How a command ended, for its supervisor. docs/reference/commands.md lists them."""

    DONE = 0
    ERROR = 1
    USAGE = 2
    DATABASE = 3
    NOT_MIGRATED = 4
    NOT_FOUND = 5
    DUTY_FAILED = 6
    """With `--once`: a duty of the reaper failed."""
    UNHEALTHY = 7
    """`queue_health` and `workers`: less than what was asked for."""


EXIT_CODES_HELP = (
    "Exit codes: 0 done or stopped in good order; 1 unexpected error; 2 wrong usage or configuration; "
    "3 database unreachable; 4 not migrated; 6 with --once: a duty of the reaper failed. SIGTERM and SIGINT stop it in "
    "good order."
)


class NotMigrated(QueueError):
    """The database lacks migrations of the apps that a process needs."""

    def __init__(self, missing: Sequence[str], *, command: str = "migrate") -> None:
        super().__init__(f"the database lacks {', '.join(missing)}: run `python manage.py {command}` first")


class StopRequest:
    """A wish to stop as something to wait for. `request` is safe from any thread, and from a signal handler."""

    def __init__(self) -> None:
        self.count = 0
        """How often it was wished: 1 means stop in good order, more mean at once."""
        self._read, self._write = os.pipe()
        os.set_blocking(self._read, False)
        os.set_blocking(self._write, False)

    def request(self) -> None:
        """Wish it."""
        self.count += 1
        try:
            os.write(self._write, b"!")
        except BlockingIOError:
            return  # the pipe is full: it is readable already

    def fileno(self) -> int:
        """Readable once it was wished, until `drain`."""
        return self._read

    def drain(self) -> None:
        """Forget that the descriptor was readable; `count` stays."""
        try:
            os.read(self._read, 64)
        except BlockingIOError:
            return

    def wait(self, seconds: float) -> bool:
        """Wait at most so long; True when a stop was asked for, before or meanwhile."""
        if not self.count:
            select.select([self], [], [], seconds)
        return self.count > 0

    def close(self) -> None:
        """Give the descriptors back."""
        os.close(self._read)
        os.close(self._write)


class StopSignals(StopRequest):
    """SIGTERM and SIGINT as a `StopRequest`, while the block lasts. Main thread only."""

    numbers: tuple[signal.Signals, ...] = (signal.SIGTERM, signal.SIGINT)

    def __enter__(self) -> Self:
        self._before = {number: signal.signal(number, self._note) for number in self.numbers}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self.close()

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.request()


class ReloadSignals(StopSignals):
    """SIGHUP, in the same way: a wish to load the code anew."""

    numbers = (signal.SIGHUP,)


def check_ready(app_labels: Sequence[str], used: QueueStore | None = None) -> None:
    """Make sure that the queue's database answers and has the migrations of these apps.

    With a store: the one that it is in; where it has a server of its own, that this answers.

    Raises: NotMigrated; Django's `OperationalError`, or StoreUnavailable, when it cannot be reached.
    """
    if used is not None and used.database is None:
        used.next_due_seconds(())
    elif missing := missing_migrations(_alias_of(used), app_labels):
        raise NotMigrated(missing)


def _alias_of(used: QueueStore | None) -> str:
    return used.database if used is not None and used.database is not None else queue_settings().database


def check_results_ready() -> None:
    """Make sure that the table of results is where `PG_QUEUE["RESULTS"]` says, if that can be asked now.

    A database that does not answer is no reason not to start: who keeps results there waits for it. Raises:
    NotMigrated.
    """
    results = queue_settings().results
    if results is None or results.backend != "database" or results.database is None:
        return
    try:
        missing = missing_migrations(results.database, ("pg_queue_results",))
    except (OperationalError, InterfaceError):
        logger.warning("results.unreachable database=%s", results.database, exc_info=True)
        return
    if missing:
        raise NotMigrated(missing, command=f"migrate pg_queue_results --database {results.database}")


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > LAST_PORT:
        raise ArgumentTypeError(f"expected {_A_PORT}, got: {text!r}")
    return int(text)


_A_PORT = f"a port from 0 to {LAST_PORT}"
_EXPECTED: Mapping[Callable[[str], Any], str] = {int: "a whole number", float: "a number", _port: _A_PORT}


@dataclass(frozen=True, slots=True)
class Choice(Generic[T]):
    """What was chosen for an option, and where: a flag, an environment variable or a setting, as an error names it."""

    value: T
    source: str


def chosen(options: Mapping[str, Any], flag: str, key: str, read: Callable[[str], T]) -> Choice[T]:
    """The option `flag`; where it is not given (None), `DOWNBEAT_<key>` of the environment; else the setting `key`.

    `read` turns the variable's text into a value and raises ValueError. An empty variable is none. Raises:
    CommandError, saying what was expected, for a variable that cannot be read.
    """
    if (given := options[flag]) is not None:
        return Choice(given, f"--{flag.replace('_', '-')}")
    name = f"DOWNBEAT_{key.upper()}"
    if text := os.environ.get(name):
        try:
            return Choice(read(text), name)
        except (ValueError, ArgumentTypeError):
            expected = _EXPECTED.get(read, "another value")
            message = f"{name}: expected {expected}, got: {text!r}"
            raise CommandError(message, returncode=ExitCode.USAGE) from None
    return Choice(getattr(queue_settings(), key), f"PG_QUEUE[{key.upper()!r}]")


class ServiceCommand(BaseCommand):
    """A command that stays until it is told to stop, or does one pass with `--once`.

    A subclass implements `serve`; what it raises becomes the exit code. System checks run first, so that wrong settings
    exit with 2 and a sentence, not with a traceback.
    """

    requires_system_checks: list[str] | tuple[str, ...] | Literal["__all__"] = ()
    app_labels: tuple[str, ...] = ("pg_queue",)
    """The apps whose migrations it needs."""

    def add_arguments(self, parser: CommandParser) -> None:
        """The options that all services have."""
        parser.epilog = EXIT_CODES_HELP
        parser.add_argument(
            "--health-port", type=_port, metavar="N", help="serve /healthz, /readyz, /metrics; 0: any free port"
        )
        parser.add_argument("--health-host", metavar="ADDRESS", help="default: 127.0.0.1")
        parser.add_argument("--once", action="store_true", help="do what is due now, then exit")
        parser.add_argument("--json", action="store_true", help="one JSON object per line on stdout")

    def handle(self, *args: Any, **options: Any) -> None:
        """Check, serve, and turn what was raised into an exit code."""
        gc.freeze()  # what was loaded lives as long as the process
        gc.set_threshold(*COLLECT_AFTER)
        self._as_json, self.place = bool(options["json"]), ""
        try:
            self._check()
            self.place = self.make_ready(options)
            self.serve(**options)
        except (CapabilityMissing, Configuration, DirectConnectionRequired) as error:
            raise CommandError(str(error), returncode=ExitCode.USAGE) from error
        except NotMigrated as error:
            raise CommandError(str(error), returncode=ExitCode.NOT_MIGRATED) from error
        except DutyFailed as error:
            raise CommandError(str(error), returncode=ExitCode.DUTY_FAILED) from error
        except (OperationalError, InterfaceError, StoreUnavailable) as error:
            place = self.place or database_label(queue_settings().database)
            message = f"database {place}: {str(error).strip()}"
            raise CommandError(message, returncode=ExitCode.DATABASE) from error

    def make_ready(self, options: Mapping[str, Any]) -> str:
        """Make sure that what the command needs is there; where that is, as its first line says. May be overridden.

        Raises: as `check_ready`.
        """
        check_ready(self.app_labels)
        return database_label(queue_settings().database)

    def serve(self, **options: Any) -> None:
        """Do the work. To be overridden."""
        raise NotImplementedError

    def health_server(
        self,
        options: Mapping[str, Any],
        pulse: Pulse,
        *,
        details: Callable[[], Mapping[str, Any]] = dict,
        used: QueueStore | None = None,
    ) -> HealthServer | None:
        """What `--health-port` and `--health-host` ask for, bound and to be started; None without a port.

        As `chosen`: where a flag is not given, the environment, else the setting. With a store: ready while that is;
        else while the queue's database is.

        Raises: CommandError naming where the value comes from, where it makes no sense or cannot be bound.
        """
        chosen_port: Choice[int | None] = chosen(options, "health_port", "health_port", _port)
        chosen_host = chosen(options, "health_host", "health_host", str)
        port, host = chosen_port.value, chosen_host.value
        if port is None:
            return None
        try:
            return HealthServer(port, pulse, host=host, app_labels=self.app_labels, details=details, used=used)
        except (socket.gaierror, UnicodeError) as error:  # the latter: what is no host name at all
            raise self.usage(chosen_host.source, "a name or IPv4 address of this machine", host) from error
        except OSError as error:
            if error.errno == errno.EADDRNOTAVAIL:
                raise self.usage(chosen_host.source, "an address of this machine", host) from error
            reason = f"a port that this process may listen on, on {host} ({error.strerror})"
            raise self.usage(chosen_port.source, reason, port) from error

    def usage(self, option: str, expected: str, got: object) -> CommandError:
        """The error for an option's value that makes no sense, to be raised."""
        return CommandError(f"{option}: expected {expected}, got: {got!r}", returncode=ExitCode.USAGE)

    def say(self, event: str, **fields: Any) -> None:
        """One line on stdout, at once: `event key=value …`, or a JSON object with `event` under `--json`."""
        if self._as_json:
            line = json.dumps({"event": event, **fields}, default=str)
        else:
            line = " ".join([event, *(f"{key}={value}" for key, value in fields.items())])
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()

    def say_started(self, **fields: Any) -> None:
        """The first line: who this is and on which database."""
        name = type(self).__module__.rpartition(".")[2]
        self.say("started", command=name, pid=os.getpid(), database=self.place, **fields)

    def _check(self) -> None:
        """Only the apps' own checks: a worker has no business with the project's URLs and templates."""
        own = [check for check in registry.get_checks() if check.__module__.partition(".")[0] in self.app_labels]
        errors = [
            message for check in own for message in check(app_configs=None, databases=None) if message.is_serious()
        ]
        if errors:
            raise Configuration("; ".join(_as_sentence(error) for error in errors))


def _as_sentence(message: Any) -> str:
    parts: Mapping[str, Any] = vars(message)
    return " ".join(str(part) for part in (f"({parts['id']})", parts["msg"], parts["hint"]) if part)
