"""`downbeat://`: the results are in the Django project's own database, for its own interface and its reaper too."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery, states
from celery.exceptions import ChordError, ImproperlyConfigured
from celery.result import AsyncResult
from django.db import connection, transaction
from kombu import pools

from pg_queue import api, reaper
from pg_queue.celery.backend import backend as backend_module
from pg_queue.celery.backend import closing
from pg_queue.celery.transport import transport as transport_module
from pg_queue.models import CeleryChord, CeleryResult, Message

pytestmark = [
    pytest.mark.postgresql("Celery's result backend"),
    pytest.mark.django_db(transaction=True, available_apps=["pg_queue"]),
]


@pytest.fixture
def make_app() -> Iterator[Any]:
    """Apps whose results are in Django's database."""
    apps: list[Any] = []

    def make(url: str = "downbeat://", **conf: object) -> Any:
        app: Any = Celery("django", set_as_current=False, broker="memory://")
        app.conf.update(result_backend=url, **conf)
        apps.append(app)
        return app

    try:
        yield make
    finally:
        for app in apps:
            app.backend.result_consumer.stop()
            app.backend.sessions.close()


@pytest.fixture
def app(make_app: Any) -> Any:
    return make_app()


def test_a_result_is_got_from_the_database_that_django_uses(app: Any) -> None:
    task_id = str(uuid.uuid4())
    app.backend.mark_as_done(task_id, {"a": 1})

    assert AsyncResult(task_id, app=app).get(timeout=5) == {"a": 1}
    assert CeleryResult.objects.get(task_id=task_id).status == "SUCCESS"


def test_what_a_task_says_of_its_progress_is_no_part_of_its_transaction(app: Any) -> None:
    task_id = str(uuid.uuid4())
    with transaction.atomic():
        app.backend.store_result(task_id, {"done": 1}, "PROGRESS")
        transaction.set_rollback(True)

    assert AsyncResult(task_id, app=app).info == {"done": 1}


def test_the_url_names_a_store_and_a_namespace(make_app: Any, settings: Any) -> None:
    settings.PG_QUEUE = {"STORES": {"default": {}, "acme": {"NAMESPACE": "acme"}}}
    task_id = str(uuid.uuid4())

    for url in ("downbeat://", "downbeat://acme", "downbeat://acme?namespace=other"):
        make_app(url).backend.mark_as_done(task_id, url)

    kept = CeleryResult.objects.filter(task_id=task_id).values_list("namespace", flat=True)
    assert sorted(kept) == ["", "acme", "other"]


def test_another_store_than_postgresql_is_refused(
    make_app: Any, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.PG_QUEUE = {"STORES": {"default": {}, "fast": {"BACKEND": "redis", "URL": "redis://127.0.0.1:6379/0"}}}
    app = Celery("wrong", set_as_current=False)
    app.conf.result_backend = "downbeat://fast"
    with pytest.raises(ImproperlyConfigured, match="expected a store in PostgreSQL, got: 'fast', whose backend is"):
        _ = app.backend

    monkeypatch.setattr(connection, "vendor", "sqlite")
    app.conf.result_backend = "downbeat://"
    with pytest.raises(ImproperlyConfigured, match="expected PostgreSQL, got: 'sqlite'"):
        _ = app.backend


def test_the_queues_own_interface_tells_what_a_stock_worker_returned(app: Any) -> None:
    done, failed, revoked, running = (uuid.uuid4() for _ in range(4))
    app.backend.mark_as_done(str(done), [1, "two"])
    app.backend.mark_as_failure(str(failed), ValueError("no", 7), traceback="Traceback …")
    app.backend.mark_as_revoked(str(revoked), "terminated", SimpleNamespace(chord=None, children=[], group=None))
    app.backend.store_result(str(running), {"done": 1}, "PROGRESS")

    found = api.get_results([done, failed, revoked, running, uuid.uuid4()])

    assert found.keys() == {done, failed, revoked, running}
    assert found[done].value_or_raise() == [1, "two"]
    assert (found[failed].state, found[failed].error) == (
        api.MessageState.FAILED,
        api.Failure(type="builtins.ValueError", message="no, 7", traceback="Traceback …"),
    )
    assert found[revoked].state is api.MessageState.CANCELLED
    assert found[running].state is api.MessageState.RUNNING
    assert api.get_result(done) == found[done]
    assert found[done].finished_at is not None
    assert found[running].finished_at is None


def test_of_a_message_that_waits_the_queues_word_counts(app: Any) -> None:
    message_id = uuid.uuid4()
    Message.objects.create(id=message_id, task="any", max_attempts=3)
    app.backend.mark_as_failure(str(message_id), ValueError("an earlier execution"))

    found = api.get_result(message_id)

    assert found is not None
    assert found.state is api.MessageState.WAITING


def test_nothing_is_unpickled_by_the_queues_own_interface(make_app: Any) -> None:
    app = make_app(result_serializer="pickle", result_accept_content=["pickle"])
    message_id = uuid.uuid4()
    app.backend.mark_as_done(str(message_id), 1)

    found = api.get_result(message_id)

    assert found is not None
    assert (found.state, found.is_kept) == (api.MessageState.SUCCEEDED, False)
    with pytest.raises(api.ResultNotKept):
        found.value_or_raise()


def duty(name: str) -> reaper.Duty:
    return next(one for one in reaper.all_duties() if one.name == name)


def test_the_reaper_deletes_what_is_past_its_time(app: Any) -> None:
    old, young = str(uuid.uuid4()), str(uuid.uuid4())
    for one in (old, young):
        app.backend.mark_as_done(one, 1)
    CeleryResult.objects.filter(task_id=old).update(expires_at="2026-01-01T00:00:00Z")

    assert duty("retain_celery_results").run() == 1

    assert AsyncResult(young, app=app).exists()
    assert not CeleryResult.objects.filter(task_id=old).exists()


def test_the_reaper_sends_the_callback_that_a_killed_worker_did_not(app: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    app.set_current()
    sent: list[Any] = []
    monkeypatch.setattr(app.amqp, "_retry_publish", lambda delay, values: sent.append(values))
    body = app.signature("collect")
    body.freeze()
    app.backend.apply_chord(("a group", []), body)
    app.backend.set_chord_size("a group", 1)
    with monkeypatch.context() as patch:
        patch.setattr(backend_module, "close_chord", lambda *_: None)  # here its process ends
        member = SimpleNamespace(id="a member", group="a group", group_index=0, chord=dict(body))
        app.backend.on_chord_part_return(member, states.SUCCESS, 5)
    assert duty("recover_chords").run() == 0
    CeleryChord.objects.update(claim_until="2026-01-01T00:00:00Z")

    assert duty("recover_chords").run() == 1

    assert sent == [[5]]
    assert CeleryChord.objects.get().state == "done"


class Killed(BaseException):
    """Stands for the end of the process."""


@pytest.fixture
def on_our_broker(make_app: Any) -> Iterator[Any]:
    """Its broker is the same database."""
    app = make_app()
    app.conf.broker_url = "downbeat://"
    transport_module._declared.clear()  # the database was emptied, of which this process knows nothing
    yield app
    pools.reset()


def member_of(app: Any, size: int = 1, **body_options: Any) -> tuple[Any, Any]:
    """A chord of so many members, whose last one ends when the answer is called; and its body."""
    body = app.signature("collect", **body_options)
    body.freeze()
    app.backend.apply_chord(("a group", []), body)
    app.backend.set_chord_size("a group", size)

    def end(number: int = 0, state: str = states.SUCCESS, result: Any = 5) -> None:
        request = SimpleNamespace(id=f"member {number}", group="a group", group_index=number, chord=dict(body))
        app.backend.on_chord_part_return(request, state, result)

    return end, body


def test_one_transaction_closes_the_chord_and_stores_the_callbacks_message(
    on_our_broker: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    end, body = member_of(on_our_broker)

    def die(delay: Any, values: Any) -> None:
        delay(values)
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(on_our_broker.amqp, "_retry_publish", die)
        with pytest.raises(Killed):
            end()
    assert (Message.objects.count(), CeleryChord.objects.get().state) == (0, "claimed")

    CeleryChord.objects.update(claim_until="2026-01-01T00:00:00Z")
    end()
    end()

    message = Message.objects.get()
    assert (str(message.id), message.task, message.args) == (body.id, "collect", [[5]])
    assert CeleryChord.objects.get().state == "done"


def test_a_worker_that_is_killed_before_the_commit_has_sent_nothing(
    on_our_broker: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    end, _ = member_of(on_our_broker)
    with monkeypatch.context() as patch:
        patch.setattr(backend_module, "close_chord", lambda *_: None)
        end()
    CeleryChord.objects.update(claim_until="2026-01-01T00:00:00Z")

    for _ in range(2):
        assert closing.recover_chords(on_our_broker.backend) in {0, 1}

    assert Message.objects.count() == 1


def test_a_callback_that_the_database_refuses_fails_the_chord(
    on_our_broker: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    end, body = member_of(on_our_broker)

    def refuse(*_: Any) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1 / 0")

    monkeypatch.setattr(on_our_broker.amqp, "_retry_publish", refuse)
    end()

    with pytest.raises(ChordError, match="Callback error: DataError"):
        AsyncResult(body.id, app=on_our_broker).get(timeout=5)
    assert CeleryChord.objects.get().state == "done"


def test_the_error_callbacks_of_a_chord_are_messages_of_the_same_transaction(on_our_broker: Any) -> None:
    end, body = member_of(on_our_broker, link_error=[on_our_broker.signature("tell")])
    end(0, states.FAILURE, ValueError("no"))

    message = Message.objects.get()
    assert (message.task, message.args) == ("tell", [body.id])


def test_error_callbacks_that_the_database_refuses_leave_the_chord_failed(
    on_our_broker: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    end, body = member_of(on_our_broker, link_error=[on_our_broker.signature("tell")])

    def refuse(*_: Any, **__: Any) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1 / 0")

    monkeypatch.setitem(vars(on_our_broker.amqp), "send_task_message", refuse)
    end(0, states.FAILURE, ValueError("no"))

    assert AsyncResult(body.id, app=on_our_broker).state == states.FAILURE
    assert CeleryChord.objects.get().state == "done"


@pytest.mark.parametrize(
    ("broker", "results", "joins"),
    [
        ("downbeat://", "downbeat://", True),
        ("downbeat://other", "downbeat://", True),
        ("redis://127.0.0.1:6379/0", "downbeat://", False),
        ("downbeat+postgresql://h/d", "downbeat+postgresql://h/d?namespace=a", True),
        ("downbeat+postgresql://h/d", "downbeat+postgresql://h/e", False),
        ("downbeat+postgresql://h/d", "downbeat://", False),
        ("downbeat://", "downbeat+postgresql://h/d", False),
    ],
)
def test_which_brokers_share_the_transaction(
    make_app: Any, settings: Any, broker: str, results: str, joins: bool
) -> None:
    settings.PG_QUEUE = {"STORES": {"default": {}, "other": {"NAMESPACE": "x"}}}
    app = make_app(results)
    app.conf.broker_url = broker

    assert (closing.joined_alias(app.backend) is not None) is joins
