"""Pictures of a running instance, by headless Chromium: `python docs/screenshots.py`.

Chromium cannot log in by itself, so it looks through a small proxy on the loopback interface that adds the session
cookie of a login made here. It needs `chromium` on the PATH, an instance (`make run`), and its credentials file.
"""

from __future__ import annotations

import argparse
import http.client
import http.cookiejar
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
IMAGES = ROOT / "docs" / "images"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--virtual-time-budget=4000",
)
HOP_BY_HOP = {
    "connection",
    "keep-alive",
    "transfer-encoding",
    "te",
    "trailer",
    "upgrade",
    "content-length",
    "server",
    "date",
}


class Page:
    """A page to take: its file's name, its path, its size in pixels, and whether in dark colours."""

    def __init__(self, name: str, path: str, height: int = 900, width: int = 1520, *, dark: bool = False) -> None:
        self.name, self.path, self.size, self.dark = name, path, f"{width},{height}", dark


def main() -> int:
    """Take every picture. Exit codes: 0 done, 1 a picture failed, 2 no browser or no instance."""
    options = _arguments()
    browser = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if browser is None:
        sys.stderr.write(f"screenshots: expected one of {', '.join(BROWSERS)} on the PATH, found none\n")
        return 2
    try:
        credentials = json.loads(Path(options.credentials).read_text())
        jar = _login(credentials["url"], credentials["username"], credentials["password"])
        pages = _pages(credentials["url"], credentials["token"])
    except (OSError, KeyError, ValueError) as error:
        sys.stderr.write(f"screenshots: expected a running instance and its {options.credentials}: {error}\n")
        return 2
    options.output.mkdir(parents=True, exist_ok=True)
    with _proxy(credentials["url"], jar) as address:
        taken = [_take(browser, address, page, options.output) for page in pages]
    return 0 if all(taken) else 1


def _arguments() -> argparse.Namespace:
    data = Path(os.environ.get("DATA_DIR", ROOT / ".downbeat"))
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--credentials", default=str(data / "credentials.json"), help="of the running instance")
    parser.add_argument("--output", type=Path, default=IMAGES, help="folder of the pictures")
    return parser.parse_args()


def _login(url: str, username: str, password: str) -> http.cookiejar.CookieJar:
    jar = http.cookiejar.CookieJar()
    opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(jar))
    page = opener.open(f"{url}/admin/login/", timeout=10).read().decode()
    token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page)
    form = {"username": username, "password": password, "next": "/admin/"}
    if token is not None:
        form["csrfmiddlewaretoken"] = token[1]
    opener.open(f"{url}/admin/login/", urllib.parse.urlencode(form).encode(), timeout=10)
    if not any(cookie.name == "sessionid" for cookie in jar):
        raise ValueError(f"{username} could not log in at {url}")
    return jar


def _pages(url: str, token: str) -> list[Page]:
    """The pages, with the ids that this instance has."""

    def first(path: str, **wanted: str) -> str:
        request = urllib.request.Request(f"{url}/api/v1/{path}", headers={"Authorization": f"Token {token}"})
        rows = json.load(urllib.request.urlopen(request, timeout=10))["results"]
        fitting = [row for row in rows if all(str(row[key]).startswith(value) for key, value in wanted.items())]
        return str((fitting or rows)[0]["id"])

    schedule = first("schedules/", kind="interval")
    pipeline = first("pipelines/")
    execution = first(f"pipelines/{pipeline}/executions/")
    failed = first("runs/?state=failed&state=succeeded", state="failed")
    admin = "/admin/scheduler/pgperiodicschedule/"
    return [
        Page("index", "/admin/", 760),
        Page("schedules", admin, 640),
        Page("schedules-dark", admin, 640, dark=True),
        Page("schedule", f"{admin}{schedule}/change/", 1750),
        Page("schedule-add", f"{admin}add/?cron_string=30+1+*+*+*&timezone=Europe/Berlin&task=echo", 1500),
        Page("schedule-pause", f"{admin}{schedule}/pause/", 480),
        Page("cutover", f"{admin}cutover/", 1200),
        Page("cutover-dark", f"{admin}cutover/", 1200, dark=True),
        Page("hand-over", f"{admin}{first('schedules/?firer=beat', kind='crontab')}/promote/", 620),
        Page("runs", "/admin/scheduler/schedulerun/", 900),
        Page("run-failed", f"/admin/scheduler/schedulerun/{failed}/change/", 960),
        Page("comparison", f"{admin}comparison/?hours=1", 2000),
        Page("pipelines", "/admin/pipelines/pipeline/", 480),
        Page("pipeline", f"/admin/pipelines/pipeline/{pipeline}/change/", 1700),
        Page("pipeline-dark", f"/admin/pipelines/pipeline/{pipeline}/change/", 1700, dark=True),
        Page("execution", f"/admin/pipelines/pipelineexecution/{execution}/change/", 1100),
        Page("summary", "/admin/pipelines/timezonesummary/", 760),
        Page("api-docs", "/api/docs/", 1200),
    ]


@contextmanager
def _proxy(url: str, jar: http.cookiejar.CookieJar) -> Iterator[str]:
    """A server that passes GET requests on to `url` with the cookies of `jar`; yields its address."""
    target = urllib.parse.urlsplit(url)
    cookies = "; ".join(f"{cookie.name}={cookie.value}" for cookie in jar)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            connection = http.client.HTTPConnection(target.hostname or "127.0.0.1", target.port, timeout=20)
            connection.request("GET", self.path, headers={"Host": target.netloc, "Cookie": cookies})
            answer = connection.getresponse()
            body = answer.read()
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in HOP_BY_HOP:
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
            connection.close()

        def log_message(self, *_: object) -> None:
            """Silent."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def _take(browser: str, address: str, page: Page, folder: Path) -> bool:
    picture = folder / f"{page.name}.png"
    picture.unlink(missing_ok=True)
    colours = (
        ("--blink-settings=preferredColorScheme=0",) if page.dark else ("--blink-settings=preferredColorScheme=1",)
    )
    with tempfile.TemporaryDirectory() as profile:
        command = [browser, *FLAGS, *colours, f"--window-size={page.size}", f"--user-data-dir={profile}"]
        command += [f"--screenshot={picture}", f"{address}{page.path}"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=90, check=False)
    blocked = [line for line in done.stderr.splitlines() if "Content Security Policy" in line]
    ok = picture.exists() and not blocked
    sys.stdout.write(f"{'ok    ' if ok else 'FAILED'} {page.name}.png  {page.path}\n")
    sys.stdout.writelines(f"       {line}\n" for line in (blocked or ([] if ok else done.stderr.splitlines()[-3:])))
    return ok


if __name__ == "__main__":
    sys.exit(main())
