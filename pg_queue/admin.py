"""The queue in Django's admin. Its rows are the engine's: to be looked at, and dead letters to be replayed."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib import admin, messages
from django.db import models
from django.http import HttpRequest

from pg_queue import api
from pg_queue.domain import MAX_PRIORITY, MIN_PRIORITY
from pg_queue.models import DeadLetter, Event, Leader, Message, Operation, Result, Switch, Worker

if TYPE_CHECKING:
    ModelAdmin = admin.ModelAdmin[Any]
else:
    ModelAdmin = admin.ModelAdmin


class ReadOnlyAdmin(api.OfferedLookups, ModelAdmin):
    """Nobody adds, changes or deletes a row by hand."""

    list_per_page = 50
    # The tables may be large, and counting is a scan: of what is listed, of all there is, of each choice of a filter.
    paginator = api.BoundedPaginator
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Never."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:
        """Never; who may view sees the rows."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:
        """Never."""
        return False


class FirstRowsFilter(admin.SimpleListFilter):
    """By the column `parameter_name`. Offers what the list's first rows have: all there is would be a scan."""

    first_rows = 1000

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """The values met, and the chosen one."""
        rows = model_admin.get_queryset(request).order_by(*model_admin.get_ordering(request))
        offered = {*rows.values_list(self.parameter_name, flat=True)[: self.first_rows], self.value()}
        return [(value, value) for value in sorted(filter(None, offered))]

    def queryset(self, request: HttpRequest, queryset: models.QuerySet[Any]) -> models.QuerySet[Any]:
        """Rows of that value."""
        return queryset.filter(**{str(self.parameter_name): self.value()}) if self.value() else queryset


class QueueFilter(FirstRowsFilter):
    """By queue."""

    title = "queue"
    parameter_name = "queue"


class TopicFilter(FirstRowsFilter):
    """By topic."""

    title = "topic"
    parameter_name = "topic"


class RefusedFilter(admin.SimpleListFilter):
    """Whether it was put off."""

    title = "put off"
    parameter_name = "put_off"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Yes and no."""
        return [("yes", "yes"), ("no", "no")]

    def queryset(self, request: HttpRequest, queryset: models.QuerySet[Any]) -> models.QuerySet[Any]:
        """Those with an error, or without."""
        if self.value() == "yes":
            return queryset.exclude(error="")
        return queryset.filter(error="") if self.value() == "no" else queryset


class PriorityFilter(admin.SimpleListFilter):
    """By priority."""

    title = "priority"
    parameter_name = "priority"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Every priority, the highest first."""
        return [(str(number), str(number)) for number in range(MAX_PRIORITY, MIN_PRIORITY - 1, -1)]

    def queryset(self, request: HttpRequest, queryset: models.QuerySet[Any]) -> models.QuerySet[Any]:
        """Rows of that priority; all of them for what is none."""
        chosen = self.value()
        return queryset.filter(priority=int(chosen)) if chosen in dict(self.lookup_choices) else queryset


def operator(request: HttpRequest, namespace: str | None = None) -> api.Operator:
    """Acts in the name of whoever makes the request, on a namespace, or with None on the store's own."""
    return api.Operator(f"{request.user.get_username()}: admin", namespace=namespace)


def _by_namespace(queryset: models.QuerySet[Any]) -> dict[str, list[uuid.UUID]]:
    """The chosen rows' ids, by their namespace."""
    ids: dict[str, list[uuid.UUID]] = {}
    for namespace, row_id in queryset.values_list("namespace", "pk"):
        ids.setdefault(namespace, []).append(row_id)
    return ids


class SwitchForm(forms.ModelForm):  # type: ignore[type-arg]
    """One switch; a queue that was never turned has none, and is on."""

    class Meta:
        model = Switch
        fields = ("queue", "is_on", "reason")
        help_texts = {"queue": "Empty: all queues, also those yet to come."}

    def clean_queue(self) -> str:
        """The name of a queue, or nothing."""
        name: str = self.cleaned_data["queue"]
        try:
            if name:
                api.check_queue(name)
        except api.InvalidMessage as error:
            raise forms.ValidationError(f"expected {error.expected}, got: {name!r}") from error
        return name

    def clean_reason(self) -> str:
        """As it can be kept."""
        reason: str = self.cleaned_data["reason"]
        try:
            api.check_reason(reason)
        except api.InvalidMessage as error:
            raise forms.ValidationError(f"expected {error.expected}, got: {len(reason)} characters") from error
        return reason


@admin.register(Switch)
class SwitchAdmin(api.OfferedLookups, ModelAdmin):
    """Queues turned off and on, and purged. What is done here is on record, see `OperationAdmin`."""

    form = SwitchForm
    list_display = ("name", "namespace", "is_on", "changed_at", "changed_by", "reason")
    ordering = ("queue",)
    actions = ("purge",)

    @admin.display(description="queue")
    def name(self, switch: Switch) -> str:
        """The queue's, or that it is all of them."""
        return switch.queue or "(all queues)"

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        """Which queue it is does not change."""
        return ("queue",) if obj else ()

    def has_delete_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:
        """Never: to turn it on says the same, and who did it."""
        return False

    def save_model(self, request: HttpRequest, obj: Switch, form: Any, change: bool) -> None:
        """Turn it, on record."""
        acting = operator(request, obj.namespace if change else None)
        turned = acting.turn(obj.queue or None, is_on=obj.is_on, reason=obj.reason)
        obj.pk = Switch.objects.only("pk").get(namespace=acting.store.namespace, queue=turned.queue or "").pk

    @admin.action(description="Purge: cancel everything that waits in these queues", permissions=["purge"])
    def purge(self, request: HttpRequest, queryset: models.QuerySet[Switch]) -> None:
        """Cancel what waits, each queue's in its own namespace; the switch of all queues is left out."""
        chosen = list(queryset.exclude(queue="").values_list("namespace", "queue"))
        count = sum(operator(request, namespace).purge(name) for namespace, name in chosen)
        self.message_user(request, f"{count} messages of {len(chosen)} queues were cancelled.", messages.SUCCESS)

    def has_purge_permission(self, request: HttpRequest) -> bool:
        """Whoever may delete messages may purge."""
        return bool(request.user.has_perm("pg_queue.delete_message"))


@admin.register(Operation)
class OperationAdmin(ReadOnlyAdmin):
    """What operators did, in the admin, by REST and from a shell."""

    list_display = ("begun_at", "actor", "action", "namespace", "queue", "count", "reason", "finished_at")
    list_filter = ("action",)
    search_fields = ("actor__startswith", "queue__startswith")
    ordering = ("-begun_at",)


@admin.register(Message)
class MessageAdmin(ReadOnlyAdmin):
    """What waits and what runs."""

    list_display = (
        "id",
        "task",
        "queue",
        "priority",
        "state",
        "how_far",
        "run_after",
        "attempts",
        "claimed_by",
        "lease_until",
    )
    list_filter = (QueueFilter, PriorityFilter)
    search_fields = ("id", "task__startswith")
    ordering = ("-id",)

    @admin.display(description="state")
    def state(self, message: Message) -> str:
        """Running while somebody holds a claim."""
        return "waiting" if message.claim_token is None else "running"

    @admin.display(description="progress", empty_value="")
    def how_far(self, message: Message) -> str | None:
        """What its execution last said of itself."""
        said = message.progress
        return said and f"{100 * said['done'] / said['total']:.0f} % {said['stage']}".rstrip()


@admin.register(Result)
class ResultAdmin(ReadOnlyAdmin):
    """What became of messages."""

    list_display = ("message_id", "task", "queue", "state", "attempts", "started_at", "finished_at", "worker")
    list_filter = ("state", QueueFilter)
    search_fields = ("message_id", "task__startswith")
    ordering = ("-message_id",)


@admin.register(DeadLetter)
class DeadLetterAdmin(ReadOnlyAdmin):
    """What failed for good, and can be replayed."""

    list_display = ("id", "task", "queue", "died_at", "attempts", "reason")
    list_filter = (QueueFilter,)
    search_fields = ("id", "task__startswith")
    ordering = ("-died_at", "-id")
    actions = ("replay", "drop")

    @admin.display(description="reason")
    def reason(self, letter: DeadLetter) -> str:
        """The error's type and message, shortened."""
        return f"{letter.error.get('type', '')}: {letter.error.get('message', '')}"[:120]

    @admin.action(description="Replay: run again, with all attempts", permissions=["replay"])
    def replay(self, request: HttpRequest, queryset: models.QuerySet[DeadLetter]) -> None:
        """Let the chosen dead letters run again."""
        replayed = sum(
            len(operator(request, namespace).replay(ids)) for namespace, ids in _by_namespace(queryset).items()
        )
        self.message_user(request, f"{replayed} messages wait again.", messages.SUCCESS)

    @admin.action(description="Drop: delete for good", permissions=["drop"])
    def drop(self, request: HttpRequest, queryset: models.QuerySet[DeadLetter]) -> None:
        """Delete the chosen dead letters."""
        dropped = sum(len(operator(request, namespace).drop(ids)) for namespace, ids in _by_namespace(queryset).items())
        self.message_user(request, f"{dropped} dead letters were deleted.", messages.SUCCESS)

    def has_replay_permission(self, request: HttpRequest) -> bool:
        """Whoever may change dead letters may replay them."""
        return bool(request.user.has_perm("pg_queue.change_deadletter"))

    def has_drop_permission(self, request: HttpRequest) -> bool:
        """Whoever may delete dead letters may drop them."""
        return bool(request.user.has_perm("pg_queue.delete_deadletter"))


@admin.register(Worker)
class WorkerAdmin(ReadOnlyAdmin):
    """Who works."""

    list_display = (
        "id",
        "queues",
        "concurrency",
        "running",
        "finished",
        "failed",
        "per_second",
        "heartbeat_at",
        "stopped_at",
    )
    ordering = ("-heartbeat_at",)

    @admin.display(description="per second")
    def per_second(self, worker: Worker) -> object:
        """Executions that ended in a second, by its last heartbeat; None: it has said nothing yet."""
        return worker.statistics.get("per_second")


@admin.register(Event)
class EventAdmin(ReadOnlyAdmin):
    """What waits in the outbox to leave for another system."""

    list_display = ("id", "topic", "created_at", "attempts", "state", "next_try", "reason")
    list_filter = (TopicFilter, RefusedFilter)
    search_fields = ("id", "key__exact")
    ordering = ("-id",)
    actions = ("drop",)

    @admin.action(description="Drop: delete, never to leave", permissions=["drop"])
    def drop(self, request: HttpRequest, queryset: models.QuerySet[Event]) -> None:
        """Delete the chosen events."""
        chosen = _by_namespace(queryset).items()
        dropped = sum(len(operator(request, namespace).drop_events(ids)) for namespace, ids in chosen)
        self.message_user(request, f"{dropped} events were deleted.", messages.SUCCESS)

    def has_drop_permission(self, request: HttpRequest) -> bool:
        """Whoever may delete events may drop them."""
        return bool(request.user.has_perm("pg_queue.delete_event"))

    @admin.display(description="state")
    def state(self, event: Event) -> str:
        """Leased while a relay has it in hand."""
        return "waiting" if event.token is None else "leased"

    @admin.display(description="next try")
    def next_try(self, event: Event) -> Any:
        """Not before this instant; of a leased one, when another relay may take it."""
        return event.run_after

    @admin.display(description="reason")
    def reason(self, event: Event) -> str:
        """Why the last attempt was put off, shortened."""
        return event.error[:120]


@admin.register(Leader)
class LeaderAdmin(ReadOnlyAdmin):
    """Who leads."""

    list_display = ("name", "term", "host", "process_id", "pid", "since", "heartbeat_at", "resigned_at")
