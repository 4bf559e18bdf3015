"""What the backend does, for either flavour of the API."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from asgiref.sync import sync_to_async
from django.core.checks import CheckMessage

from pg_queue.domain import Json, Message, MessageState, NewMessage
from pg_queue.errors import Configuration, InvalidMessage, UnknownTask
from pg_queue.ports import QueueStore
from pg_queue.results.registry import result_store
from pg_queue.settings import queue_settings
from pg_queue.storage import store
from pg_queue.task_backend.checks import check_backend
from pg_queue.tasks import get_task
from pg_queue.tasks.django import resolution
from pg_queue.tasks.django.flavour import Flavour
from pg_queue.tasks.django.options import BackendOptions, parse_options
from pg_queue.tasks.django.results import HEADER, header_of, queue_priority, result_of, stored_instant
from pg_queue.tasks.policy import declared
from pg_queue.validation import check_queue, checked_message

if TYPE_CHECKING:

    class _Base:
        """What the API's own base class has."""

        alias: str
        queues: set[str]
        options: Any

        def validate_task(self, task: Any) -> None: ...
        def check(self, **kwargs: Any) -> Iterable[CheckMessage]: ...

else:
    _Base = object

Call = tuple[Any, Sequence[Json], Mapping[str, Json]]
"""A task, its positional and its keyword arguments."""


class Core(_Base):
    """The API's backend on a store of `PG_QUEUE["STORES"]`.

    A task is a message there, and its result is what the store keeps of it: any process may ask. Enqueue joins the
    caller's transaction: no commit, no task. `manage.py run_worker` executes it.
    """

    flavour: Flavour

    supports_defer = True
    supports_async_task = True
    supports_get_result = True
    supports_priority = True

    @cached_property
    def queue_options(self) -> BackendOptions:
        """`OPTIONS`, checked when it is first needed. Raises: Configuration."""
        return parse_options(self.alias, self.options)

    def validate_task(self, task: Any) -> None:
        """Refuse what cannot be executed. Raises: the API's error for an invalid task."""
        super().validate_task(task)
        try:
            check_queue(task.queue_name)
        except InvalidMessage as error:
            raise self.flavour.invalid(f"queue_name: expected {error.expected}, got: {task.queue_name!r}") from None
        try:
            declared(task.module_path, self._known_options().of(task))
        except ValueError as error:
            raise self.flavour.invalid(str(error)) from None
        resolution.note(task.module_path)

    def enqueue(self, task: Any, args: Sequence[Json], kwargs: Mapping[str, Json]) -> Any:
        """Store one task and return its result. Joins the caller's transaction.

        Raises: the API's error for an invalid task, also for one that a worker would not find; TypeError and ValueError
        for arguments that JSON cannot hold; InvalidMessage (PayloadTooLarge) for what no message may hold.
        """
        return self.enqueue_many([(task, args, kwargs)])[0]

    def enqueue_many(self, calls: Iterable[Call]) -> list[Any]:
        """Store tasks in one statement, all or none, and return their results in the same order.

        Joins the caller's transaction. Raises: as `enqueue`, before anything is stored.
        """
        given = list(calls)
        if not given:
            return []
        _ = self.queue_options
        messages = [self._message(task, args, kwargs) for task, args, kwargs in given]
        place = self._store()
        ids = place.enqueue(messages)
        stored = place.get(ids)
        results = [result_of(self.flavour, task, stored[one]) for one, (task, _, _) in zip(ids, given, strict=True)]
        for result in results:
            self.flavour.signals.task_enqueued.send(type(self), task_result=result)
        return results

    async def aenqueue_many(self, calls: Iterable[Call]) -> list[Any]:
        """See `enqueue_many`."""
        return await sync_to_async(self.enqueue_many, thread_sensitive=True)(calls)

    def get_result(self, result_id: str) -> Any:
        """What became of a task. Raises: the API's TaskResultDoesNotExist where there is none, or none any more."""
        message = self._find(result_id)
        task = None if message is None else _task_of(message)
        if message is None or task is None:
            raise self.flavour.no_result(result_id)
        return result_of(self.flavour, task, message, self._value(message))

    def check(self, **kwargs: Any) -> list[CheckMessage]:
        """What is wrong with this entry of `TASKS`: see `pg_queue.task_backend.checks`."""
        return [*super().check(**kwargs), *check_backend(self)]

    def _known_options(self) -> BackendOptions:
        """For where tasks are declared: wrong ones let nothing be enqueued, and the check tells of them first."""
        try:
            return self.queue_options
        except Configuration:
            return BackendOptions()

    def _store(self) -> QueueStore:
        options = self.queue_options
        place = store(options.store)
        return place if options.namespace is None else place.within(options.namespace)

    def _message(self, task: Any, args: Sequence[Json], kwargs: Mapping[str, Json]) -> NewMessage:
        self.validate_task(task)
        self._check_is_found(task)
        plain_args: list[Json] = self.flavour.normalize(args)
        plain_kwargs: dict[str, Json] = self.flavour.normalize(kwargs)
        message = NewMessage(
            task=task.module_path,
            args=plain_args,
            kwargs=plain_kwargs,
            queue=task.queue_name,
            priority=queue_priority(task.priority),
            run_after=None if task.run_after is None else stored_instant(task.run_after),
            max_attempts=self.queue_options.of(task).get("max_attempts"),
            headers={HEADER: header_of(self.alias, task, plain_args, plain_kwargs)},
        )
        return checked_message(message, max_bytes=queue_settings().max_payload_bytes)

    def _check_is_found(self, task: Any) -> None:
        """A worker will look for it at its path; what is not there now would not be then."""
        path = task.module_path
        if not resolution.is_known(path) and not resolution.is_in_scope(path):
            raise self.flavour.invalid(
                f"task: expected a function in a module of an installed app, or of one of "
                f"TASKS[{self.alias!r}]['OPTIONS']['MODULES'], got: {path}"
            )
        try:
            source = get_task(path).source
        except UnknownTask as error:
            expected = "a task that stands in its module under its function's own name"
            raise self.flavour.invalid(f"task: expected {expected}, got: {path}") from error
        if source != "django":
            raise self.flavour.invalid(f"task: expected a name of its own, got: {path}, which a {source} task has")

    def _find(self, result_id: object) -> Message | None:
        try:
            message_id = result_id if isinstance(result_id, uuid.UUID) else uuid.UUID(str(result_id))
        except ValueError:
            return None
        return self._store().get([message_id]).get(message_id)

    def _value(self, message: Message) -> Json:
        """What the task returned, wherever that is kept. Raises: TaskResultDoesNotExist where it is kept no more."""
        elsewhere = result_store()
        if message.state is not MessageState.SUCCEEDED or message.result is not None or elsewhere is None:
            return message.result
        kept = elsewhere.get([message.id]).get(message.id)
        if kept is None or kept.namespace != self._store().namespace:
            raise self.flavour.no_result(str(message.id))
        return kept.value


def _task_of(message: Message) -> Any | None:
    try:
        return resolution.find(message.task)
    except UnknownTask:
        return None
