"""A Celery project for real workers: its broker and results come from the environment, as JSON in `TEST_CELERY`."""

from __future__ import annotations

import json
import os
import time
from typing import Any

from celery import Celery, chord, group, signature
from celery.exceptions import Reject

app: Any = Celery("canvas", set_as_current=False)
app.conf.update(
    broker_connection_retry_on_startup=True,
    **json.loads(os.environ.get("TEST_CELERY", "{}")),
)


class Wrong(Exception):
    """An error of the project's own."""


@app.task
def add(x: Any, y: Any = 1) -> Any:
    return x + y


@app.task
def total(numbers: list[Any]) -> Any:
    return sum(numbers)


@app.task
def same(value: Any = None) -> Any:
    return value


@app.task
def fail(*_: Any, text: str = "on purpose") -> None:
    raise Wrong(text)


@app.task(bind=True)
def who(self: Any) -> Any:
    return [self.request.id, self.request.parent_id, self.request.root_id, self.request.group]


@app.task(bind=True)
def progress(self: Any, key: str) -> str:
    """Ends when whoever waits has noted that it heard of the progress."""
    self.update_state(state="PROGRESS", meta={"done": 1, "of": 2})
    while not app.backend.task_result_exists(f"noted {key}"):
        time.sleep(0.02)
    return "all"


@app.task(bind=True, max_retries=2, default_retry_delay=0)
def at_the_third_time(self: Any) -> int:
    if self.request.retries < 2:
        raise self.retry(exc=Wrong(f"try {self.request.retries}"))
    retries: int = self.request.retries
    return retries


@app.task(ignore_result=True)
def unkept(value: Any = None) -> Any:
    return value


@app.task(bind=True)
def replaced_by(self: Any, sig: Any) -> Any:
    raise self.replace(signature(sig, app=app))


@app.task(bind=True)
def replaced_by_group(self: Any, numbers: list[int]) -> Any:
    raise self.replace(group(add.s(number, 1) for number in numbers))


@app.task(bind=True)
def replaced_by_chord(self: Any, numbers: list[int]) -> Any:
    raise self.replace(chord((add.s(number, 1) for number in numbers), total.s()))


@app.task
def begins_a_chord(numbers: list[int]) -> Any:
    return chord((add.s(number, 1) for number in numbers), total.s())()


@app.task
def noted(value: Any, key: str = "") -> None:
    """Keep a value in the results under an id that the test knows: what was called, and with what."""
    app.backend.store_result(f"noted {key}", value, "SUCCESS")


@app.task
def noted_error(request: Any, exc: Any, traceback: Any, key: str = "") -> None:
    """A new-style error callback: it is called in the worker that saw the error."""
    app.backend.store_result(f"noted {key}", [request.id, repr(exc)], "SUCCESS")


@app.task(acks_late=True, reject_on_worker_lost=True, bind=True)
def once_more(self: Any, number: int, folder: str) -> int:
    """Says that it was begun; takes its time when it is executed for the first time."""
    begun = os.path.join(folder, f"member-{number}")
    executions = len([name for name in os.listdir(folder) if name.startswith(f"member-{number}.")])
    with open(f"{begun}.{executions}", "w") as file:
        file.write(str(os.getpid()))
    if executions == 0:
        time.sleep(1.0)
    return number


@app.task
def counted(numbers: list[int], folder: str = "") -> list[int]:
    """A callback that leaves one file for each execution."""
    with open(os.path.join(folder, f"callback.{os.getpid()}.{time.monotonic_ns()}"), "w"):
        return numbers


@app.task
def large(size: int) -> str:
    return "x" * size


@app.task
def rejected() -> None:
    raise Reject("not wanted", requeue=False)
