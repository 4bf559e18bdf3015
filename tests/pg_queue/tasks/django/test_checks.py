"""What `manage.py check` says of `TASKS`."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest
from django.test import override_settings

from pg_queue.api import Configuration
from tests.pg_queue.tasks.django.api import default_task_backend
from tests.pg_queue.tasks.django.entries import BACKEND, JOBS

pytestmark = pytest.mark.django_db


def found() -> list[tuple[str | None, str]]:
    return [(one.id, one.msg) for one in default_task_backend.check()]


def use(settings: Any, **entry: Any) -> None:
    settings.TASKS = {"default": {"BACKEND": BACKEND, **entry}}


def test_a_backend_in_order_has_nothing_to_say() -> None:
    assert found() == []


def test_the_queues_app_is_among_the_installed() -> None:
    with override_settings(INSTALLED_APPS=["django.contrib.contenttypes"]):
        ((code, text),) = found()
    assert code == "pg_queue.E020"
    assert "expected the app pg_queue among INSTALLED_APPS" in text


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"MAX_ATEMPTS": 1}, "['OPTIONS']: expected keys among BACKOFF, DELIVERY, MAX_ATTEMPTS"),
        ({"MAX_ATTEMPTS": 0}, "['OPTIONS']['MAX_ATTEMPTS']: expected an integer from 1 to 32767, or None, got: 0"),
        ({"RETRY_BACKOFF_SECONDS": -1}, "['RETRY_BACKOFF_SECONDS']: expected a number of seconds, 0 or more, or None,"),
        ({"TIME_LIMIT_SECONDS": 0}, "['TIME_LIMIT_SECONDS']: expected a number of seconds, above 0, or None, got: 0"),
        ({"DELIVERY": "twice"}, "['DELIVERY']: expected one of at_least_once, at_most_once, got: 'twice'"),
        ({"RETRY_ON": "ValueError"}, "['OPTIONS']: expected keys among"),
        ({"MODULES": "jobs"}, "['MODULES']: expected a list of modules' dotted names, got: 'jobs'"),
        ({"MODULES": ["a b"]}, "['MODULES']: expected a list of modules' dotted names, got: ['a b']"),
        ({"STORE": 1}, "['OPTIONS']['STORE']: expected a text, got: 1"),
        ({"STORE": "elsewhere"}, "PG_QUEUE['STORES']: expected an alias among default, got: 'elsewhere'"),
        ({"NAMESPACE": "a b"}, "['NAMESPACE']: expected 0 to 64 letters"),
        ("default", "['OPTIONS']: expected a dictionary, got: 'default'"),
    ],
)
def test_options_are_checked(settings: Any, options: Any, text: str) -> None:
    use(settings, OPTIONS=options)
    ((code, told), *_) = found()
    assert code == "pg_queue.E021"
    assert text in told


def test_options_that_are_wrong_let_nothing_be_enqueued(settings: Any, jobs: ModuleType) -> None:
    options = {"MODULES": [JOBS], "MAX_ATTEMPTS": "3"}
    settings.TASKS = {"default": {"BACKEND": BACKEND, "OPTIONS": options}}
    with pytest.raises(Configuration, match=r"TASKS\['default'\]\['OPTIONS'\]\['MAX_ATTEMPTS'\]"):
        jobs.nothing.enqueue()


def test_a_queue_that_no_worker_can_serve_is_told(settings: Any) -> None:
    use(settings, QUEUES=["good", "a,b"], OPTIONS={"MODULES": [JOBS]})
    ((code, text),) = found()
    assert code == "pg_queue.E022"
    assert "got: 'a,b'" in text


def test_a_store_that_joins_no_transaction_is_told(settings: Any) -> None:
    settings.PG_QUEUE = {"STORES": {"default": {}, "redis": {"BACKEND": "redis", "URL": "redis://127.0.0.1/0"}}}
    use(settings, OPTIONS={"STORE": "redis", "MODULES": [JOBS]})
    ((code, text),) = found()
    assert code == "pg_queue.W023"
    assert "also when the transaction is rolled back" in text


def test_a_task_that_a_worker_would_not_find_is_told(settings: Any, jobs: ModuleType) -> None:
    use(settings)
    jobs.nothing.using()
    assert (
        "pg_queue.W024",
        f"task {JOBS}.nothing: expected a function in a module of an installed app, which a worker would find",
    ) in found()
