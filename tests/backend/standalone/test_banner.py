"""The banner tells how to log in, and never more than is known."""

from __future__ import annotations

import io
import re
import socket
import time
from pathlib import Path

import pytest
from django.urls import reverse

from backend.standalone.banner import Banner
from backend.standalone.credentials import Credentials
from backend.standalone.leadership import Leadership
from backend.standalone.output import Terminal
from backend.standalone.preparation import Options
from backend.standalone.services import Ports
from backend.standalone.supervisor import Supervisor

COMPARISON = reverse("admin:scheduler_comparison")


def shown(username: str, password: str) -> str:
    """The banner for such credentials."""
    said = io.StringIO()
    with socket.create_server(("127.0.0.1", 0)) as web:
        port = web.getsockname()[1]
        url = f"http://127.0.0.1:{port}"
        options = Options(port=port, data_dir=Path("/data"), database_url=None, has_beat=False)
        ports = Ports(web=port, schedulers=(1, 2), worker=3)
        started_at = time.monotonic() - 60
        credentials = Credentials(url=url, username=username, password=password, token="t")
        banner = Banner(Supervisor(Terminal(said)), options, ports, credentials, started_at=started_at)
        banner.show_when_ready()
        assert said.getvalue() == ""  # nobody leads yet
        banner.lead(Leadership(name="scheduler", term=3, pid=42, host=socket.gethostname()))
        banner.show_when_ready()
    assert f"Admin      {url}/admin/" in said.getvalue()
    assert f"Comparison {url}{COMPARISON}  no Celery Beat: DOWNBEAT_DEMO_BEAT=1 starts one" in said.getvalue()
    return said.getvalue()


def test_it_shows_where_to_log_in_with_what_and_how_to_try_a_failover() -> None:
    text = shown("admin", "s3cret")
    for line in (
        "Username   admin",
        "Password   s3cret",
        "Token      in /data/credentials.json",
        "pid 42, term 3",
        "try a failover: kill -9 42",
    ):
        assert line in text
    assert "/api/docs/" in text
    seconds = re.search(r"Downbeat runs, ([\d.]+) s after its start", text)
    assert seconds is not None
    assert float(seconds[1]) >= 60


@pytest.mark.parametrize(
    ("username", "password", "line"),
    [
        ("admin", "", "Password   not known here: it was changed"),
        ("", "", "Username   one of your own: the demo's user was deleted"),
    ],
)
def test_what_is_not_known_is_said(username: str, password: str, line: str) -> None:
    assert line in shown(username, password)
