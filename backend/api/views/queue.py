"""`/api/v1/tasks/` and `/api/v1/messages/`: what the queue can run, and what became of one message."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework import viewsets
from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.response import Response

from backend.api.serializers.queue import MessageSerializer, TaskPageSerializer, TaskSerializer
from backend.pipelines.messages import find_messages
from backend.pipelines.organizations import visible_to
from pg_queue import api as queue


class TaskViewSet(viewsets.ViewSet):
    """Tasks that may be scheduled: the registry of this project, one page, sorted by name."""

    permission_model = "scheduler.pgperiodicschedule"
    lookup_field = "name"
    lookup_value_regex = "[^/]+"

    @extend_schema(summary="List tasks", operation_id="tasks_list", responses=OpenApiResponse(TaskPageSerializer))
    def list(self, request: Request) -> Response:
        """Every task."""
        tasks = TaskSerializer(queue.tasks(), many=True).data
        return Response({"next": None, "previous": None, "results": tasks})

    @extend_schema(
        summary="Show task",
        parameters=[OpenApiParameter("name", OpenApiTypes.STR, OpenApiParameter.PATH)],
        responses=TaskSerializer,
    )
    def retrieve(self, request: Request, name: str) -> Response:
        """One task."""
        try:
            return Response(TaskSerializer(queue.get_task(name)).data)
        except queue.UnknownTask as error:
            raise NotFound(str(error)) from error


class MessageViewSet(viewsets.ViewSet):
    """Messages of the queue, by id, while they or their results are kept."""

    permission_model = "pg_queue.message"
    lookup_value_regex = "[0-9a-fA-F-]{36}"

    @extend_schema(
        summary="Show message",
        parameters=[OpenApiParameter("id", OpenApiTypes.UUID, OpenApiParameter.PATH)],
        responses=MessageSerializer,
    )
    def retrieve(self, request: Request, pk: str) -> Response:
        """One message: waiting, running, succeeded, failed or cancelled.

        One that is routed away is found there, or waits to leave. 404 only where there is no such message (any more),
        or none that the caller may see; 503 where nobody can tell.
        """
        found, is_complete = find_messages([_uuid(pk)], stores=queue.queue_settings().routing.stores)
        if not found and not is_complete:
            raise queue.StoreUnavailable("a store that queues are routed to does not answer")
        visible = [message for message in found.values() if self._is_visible(request, message)]
        if not visible:
            raise NotFound
        context = {"shows_traceback": request.user.is_staff}
        return Response(MessageSerializer(_with_result(visible[0]), context=context).data)

    def _is_visible(self, request: Request, message: queue.Message) -> bool:
        if request.user.is_superuser:
            return True
        return visible_to(request.user).filter(slug=message.organization_id).exists()


def _with_result(message: queue.Message) -> queue.Message:
    """Where results are kept elsewhere, the queue's own row has none."""
    if message.state is not queue.MessageState.SUCCEEDED or message.result is not None or not queue.result_store():
        return message
    for alias in ("default", *queue.queue_settings().routing.stores):
        result = queue.get_results([message.id], using=alias).get(message.id)
        if result is not None and result.value is not None:
            return replace(message, result=result.value)
    return message


def _uuid(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise NotFound from None
