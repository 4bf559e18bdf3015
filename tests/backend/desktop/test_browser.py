"""Desktop mode as a person uses it: in a browser, from the login to a run that has succeeded."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect, sync_playwright

from tests import services
from tests.backend.desktop.conftest import Desktop
from tests.pg_queue.worker.conftest import until

pytestmark = [pytest.mark.processes, pytest.mark.services("chromium"), pytest.mark.timeout(300)]
PATIENCE_MS = 60_000
"""A slow machine is no broken page."""


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Page]:
    """A page of a headless Chromium of the test's own."""
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=services.chromium(), args=["--no-sandbox"])
        opened = browser.new_page()
        opened.set_default_timeout(PATIENCE_MS)
        expect.set_options(timeout=PATIENCE_MS)
        yield opened
        browser.close()


def log_in(page: Page, desktop: Desktop) -> None:
    known = desktop.credentials
    page.goto(f"{known['url']}/admin/")
    page.get_by_label("Username").fill(known["username"])
    page.get_by_label("Password").fill(known["password"])
    page.get_by_role("button", name="Log in").click()


def test_a_person_logs_in_makes_a_schedule_and_sees_it_run(start: Callable[..., Desktop], page: Page) -> None:
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("response", lambda got: problems.append(f"{got.status} {got.url}") if got.status >= 500 else None)
    desktop = start()
    desktop.wait_until_ready()
    log_in(page, desktop)

    page.goto(f"{desktop.credentials['url']}/admin/scheduler/pgperiodicschedule/add/")
    page.locator("[name=pipeline_name]").fill("Made in a browser")
    page.locator("[name=kind]").select_option("interval")
    page.locator("[name=cron_string]").fill("PT1S")
    page.locator("[name=task]").fill("echo")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_role("link", name="Made in a browser").first).to_be_visible()

    until(lambda: _has_succeeded(desktop), what="a run of it that succeeded")
    page.goto(f"{desktop.credentials['url']}/admin/scheduler/schedulerun/")
    expect(page.locator("#result_list")).to_contain_text(re.compile("Made in a browser[^\n]*succeeded", re.IGNORECASE))
    assert problems == []


def _has_succeeded(desktop: Desktop) -> bool:
    (made,) = [s for s in desktop.ask("schedules/")["results"] if s["name"] == "Made in a browser"]
    return any(run["state"] == "succeeded" for run in desktop.ask(f"runs/?schedule={made['id']}")["results"])
