"""One run of the stand-alone service: reclaim, prepare, supervise, stop."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from types import FrameType

from backend.standalone.banner import Banner
from backend.standalone.children import ChildSpec
from backend.standalone.credentials import Credentials
from backend.standalone.errors import StandaloneError
from backend.standalone.leadership import LeaderWatch
from backend.standalone.output import Terminal
from backend.standalone.placement import make_private_folder
from backend.standalone.ports import free_ports
from backend.standalone.postgres import EmbeddedPostgres
from backend.standalone.preparation import (
    Options,
    prepare_database,
    require_database,
    require_free_port,
    service_environment,
)
from backend.standalone.remnants import Tenure
from backend.standalone.services import Ports, service_specs
from backend.standalone.supervisor import STOP_SIGNALS, Supervisor


class StopRequested(BaseException):
    """A stop signal came before the supervisor took the signals over."""


Prepare = Callable[[Options, Mapping[str, str], Terminal], Credentials]
Services = Callable[[Options, Ports], list[ChildSpec]]


def run(prepare: Prepare = prepare_database, services: Services = service_specs) -> int:
    """Start everything that the environment asks for, and return when everything has stopped; the exit code.

    `prepare` makes a database ready, `services` names what runs on it.
    """
    for number in STOP_SIGNALS:
        signal.signal(number, _raise_stop)
    try:
        options = Options.from_environment(os.environ)
        tenure = Tenure(make_private_folder(options.data_dir))
        try:
            _supervise(options, tenure, Terminal(), prepare, services)
        finally:
            tenure.end()
            _ignore_stop_signals()
    except StopRequested:
        return 0
    except StandaloneError as error:
        print(f"Downbeat cannot run: {error}", file=sys.stderr)  # noqa: T201
        return 1
    return 0


def _raise_stop(_number: int, _frame: FrameType | None) -> None:
    _ignore_stop_signals()  # one is enough: what follows is already the way out
    raise StopRequested


def _ignore_stop_signals() -> None:
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _supervise(options: Options, tenure: Tenure, terminal: Terminal, prepare: Prepare, services: Services) -> None:
    started_at = time.monotonic()
    if ended := tenure.reclaim():
        terminal.say("downbeat", f"ended {ended} processes that an earlier start had left running")
    require_free_port(options.port)
    if options.database_url:
        require_database(options.database_url)
    postgres = None if options.database_url else EmbeddedPostgres(options.data_dir)
    try:
        url = options.database_url or _start_postgres(postgres, terminal)
        environment = service_environment(options, url, tenure.secret)
        credentials = prepare(options, environment, terminal)
        first, second, worker = free_ports(3, other_than=[options.port])
        ports = Ports(web=options.port, schedulers=(first, second), worker=worker)
        supervisor = Supervisor(terminal, postgres)
        for spec in services(options, ports):
            supervisor.add(spec, environment)
        _run_services(supervisor, Banner(supervisor, options, ports, credentials, started_at=started_at), url)
    finally:
        if postgres is not None:
            with suppress(StandaloneError):  # it was never started
                postgres.stop()
                terminal.say("downbeat", "PostgreSQL has stopped")


def _start_postgres(postgres: EmbeddedPostgres | None, terminal: Terminal) -> str:
    assert postgres is not None
    terminal.say("downbeat", "starting PostgreSQL")
    url = postgres.start()
    terminal.say("downbeat", f"PostgreSQL runs on port {postgres.port}, data in {postgres.cluster.data}")
    return url


def _run_services(supervisor: Supervisor, banner: Banner, url: str) -> None:
    watch = LeaderWatch(url, lambda leader: supervisor.request(partial(banner.lead, leader)))
    watch.start()
    try:
        supervisor.run(after_pass=banner.show_when_ready)
    finally:
        watch.stop()
