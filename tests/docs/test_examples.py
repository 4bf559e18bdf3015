"""Every Python block of the documentation has types that hold, and runs; see `tests.docs.examples`."""

from __future__ import annotations

import ast
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from django.db import connections
from django.utils.module_loading import import_string

from pg_queue.api import EmbeddedWorker, WorkerOptions, store
from pg_queue.settings import parse as parse_queue
from pg_queue.tasks import registry
from pg_queue.tasks.django import resolution
from pg_queue.tasks.django.options import parse_options
from scheduler.settings import parse as parse_scheduler
from tests.docs.examples import PAGES, ROOT, Block, blocks_of, module_name

BLOCKS = [block for page in PAGES for block in blocks_of(page)]
PROGRAMS = [page for page in PAGES if any(not block.is_settings for block in blocks_of(page))]
QUEUES = ("default", "reports", "slow", "mail")


@pytest.mark.long
def test_the_types_of_every_example_hold(tmp_path: Path) -> None:
    for page in PROGRAMS:
        (tmp_path / f"{module_name(page)}.py").write_text(_on_their_lines(page))
    settings = [block for block in BLOCKS if block.is_settings]
    for block in settings:
        header = "DATABASES: dict[str, object] = {}; " if block.code.startswith("DATABASES[") else ""
        (tmp_path / f"{module_name(block.page)}_{block.line}.py").write_text(f"{header}{block.padded}")
    assert len(PROGRAMS) > 10
    assert len(settings) > 10
    command = [sys.executable, "-m", "mypy", "--config-file", str(ROOT / "pyproject.toml"), "--no-error-summary"]
    told = subprocess.run([*command, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stdout.replace(str(tmp_path), "") + told.stderr


def _on_their_lines(page: Path) -> str:
    """The page's programs as one module, each line where it stands in the page."""
    lines: list[str] = []
    for block in blocks_of(page):
        if not block.is_settings:
            lines += [""] * (block.line - 1 - len(lines)) + block.code.splitlines()
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.is_settings], ids=str)
def test_an_example_of_settings_is_taken(block: Block) -> None:
    names: dict[str, Any] = {"DATABASES": {}}
    exec(compile(block.padded, str(block.page), "exec"), names)
    given = {name: _without_ellipsis(value) for name, value in names.items() if name.isupper()}
    assert given
    if "PG_QUEUE" in given:
        parse_queue(given["PG_QUEUE"])
    if "SCHEDULER" in given:
        parse_scheduler(given["SCHEDULER"])
    for alias, entry in given.get("TASKS", {}).items():
        assert import_string(entry["BACKEND"])
        parse_options(alias, entry.get("OPTIONS", {}))
    for app in given.get("INSTALLED_APPS", []):
        assert import_string(f"{app}.__name__")
    for alias, entry in given["DATABASES"].items():
        assert not {*entry} - {*connections["default"].settings_dict}, alias


def _without_ellipsis(value: Any) -> Any:
    if isinstance(value, list):
        return [_without_ellipsis(one) for one in value if one is not ...]
    if isinstance(value, dict):
        return {key: _without_ellipsis(one) for key, one in value.items() if one is not ...}
    if isinstance(value, set):  # `{...}` stands for a dictionary
        return {}
    return value


@pytest.fixture
def let_time_pass() -> Iterator[Callable[[], None]]:
    """Waits until a worker, which is at work meanwhile, has executed what is due."""
    worker = EmbeddedWorker(WorkerOptions(queues=QUEUES, concurrency=2, drain_seconds=10.0))
    worker.start()

    def wait() -> None:
        give_up_at = time.monotonic() + 30
        while any(depth.waiting or depth.running for depth in store().depths() if depth.queue in QUEUES):
            assert time.monotonic() < give_up_at, store().depths()
            time.sleep(0.02)

    yield wait
    worker.stop()


@pytest.fixture
def _tasks_of_the_api(monkeypatch: pytest.MonkeyPatch, settings: Any) -> None:
    """What the API's tasks are found by; they are gone after the test."""
    registry.tasks()  # discovered before there are settings that name modules which no file has
    for name in ("_found", "_declared"):
        monkeypatch.setattr(resolution, name, type(getattr(resolution, name))(getattr(resolution, name)))
    modules = [module_name(page) for page in PROGRAMS]
    backend = "pg_queue.tasks.PgQueueBackend"
    settings.TASKS = {"default": {"BACKEND": backend, "QUEUES": [], "OPTIONS": {"MODULES": modules}}}


@pytest.mark.long
@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("_tasks_of_the_api")
@pytest.mark.postgresql("the examples are about schedules of Beat's, too")
def test_every_other_example_runs(monkeypatch: pytest.MonkeyPatch, let_time_pass: Callable[[], None]) -> None:
    failed = []
    for page in PROGRAMS:
        module = ModuleType(module_name(page))
        vars(module)["let_time_pass"] = let_time_pass
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, module.__name__, module)
            for name in ("_registered", "_origins"):
                patch.setattr(registry, name, dict(getattr(registry, name)))
            failed += [told for block in blocks_of(page) if (told := _run(block, module))]
            let_time_pass()
    assert not failed, "\n".join(failed)


def _run(block: Block, module: ModuleType) -> str | None:
    """Run one block in the page's module; what went wrong, with the page's line."""
    if block.is_settings or block.not_run:
        return None
    tree = ast.parse(block.padded, str(block.page))
    tree.body = [_passing(statement) for statement in tree.body]
    try:
        exec(compile(ast.fix_missing_locations(tree), str(block.page), "exec"), vars(module))
    except Exception:  # noqa: BLE001 - that is what is to be told, of all of them
        return f"{block}\n{traceback.format_exc(limit=-3)}"
    return None


def _passing(statement: ast.stmt) -> ast.stmt:
    """`...` between statements, as the call that lets time pass."""
    match statement:
        case ast.Expr(value=ast.Constant(value=value)) if value is ...:
            call = ast.Call(func=ast.Name(id="let_time_pass", ctx=ast.Load()), args=[], keywords=[])
            return ast.copy_location(ast.Expr(value=ast.copy_location(call, statement)), statement)
    return statement


def test_what_is_not_run_says_why() -> None:
    for block in BLOCKS:
        assert not block.not_run or len(block.not_run) > 10, block


def test_an_example_that_fails_is_told_with_its_line(tmp_path: Path) -> None:
    block = Block(page=ROOT / "README.md", line=7, code="x = 1\ny = x / 0\n")
    told = _run(block, ModuleType("example_of_none"))
    assert told is not None
    assert told.startswith("README.md:7\n")
    assert 'README.md", line 8' in told
    assert "ZeroDivisionError" in told
