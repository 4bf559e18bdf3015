"""`/api/v1/queues/` and `/api/v1/dead-letters/`: what an operator sees and does. Every act is on record.

A queue is shared by the organizations, so queues are for superusers; dead letters are each organization's own.
"""

from __future__ import annotations

from typing import Any

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import mixins, viewsets
from rest_framework.decorators import action
from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.response import Response

from backend.api.documentation import BAD_REQUEST, documented
from backend.api.filters import DeadLetterFilter
from backend.api.organizations import OrganizationScope
from backend.api.permissions import ActionPermissions
from backend.api.serializers.queues import (
    CountSerializer,
    DeadLetterSerializer,
    QueuePageSerializer,
    QueueSerializer,
    ReasonSerializer,
)
from pg_queue import api as queue
from pg_queue.models import DeadLetter

DEAD_LETTER_KEYSET = ("-died_at", "id")
_NAME = [OpenApiParameter("name", OpenApiTypes.STR, OpenApiParameter.PATH)]
_TURNED = {200: QueueSerializer, **BAD_REQUEST}
_ALL_TURNED = {200: QueuePageSerializer, **BAD_REQUEST}
_COUNTED = {200: CountSerializer, **BAD_REQUEST}
_EMPTY = {"waiting": 0, "delayed": 0, "running": 0, "dead": 0, "oldest_due_seconds": 0.0}


class SuperusersOnly(ActionPermissions):
    """What concerns the work of every organization."""

    def has_permission(self, request: Request, view: Any) -> bool:
        """Whether the caller is a superuser."""
        return bool(request.user and request.user.is_superuser)


class QueueViewSet(viewsets.ViewSet):
    """Queues that have messages, or a switch."""

    permission_model = "pg_queue.message"
    permission_classes = [SuperusersOnly]
    lookup_field = "name"
    lookup_value_regex = "[A-Za-z0-9._:-]{1,128}"

    @extend_schema(summary="List queues", operation_id="queues_list", responses=QueuePageSerializer)
    def list(self, request: Request) -> Response:
        """Every queue, by name, and the switch of all of them."""
        return _page(request)

    @extend_schema(summary="Show queue", parameters=_NAME, responses=QueueSerializer)
    def retrieve(self, request: Request, name: str) -> Response:
        """One queue; empty where it has no messages."""
        return Response(QueueSerializer(_Board(_operator(request)).shown(name)).data)

    @extend_schema(
        summary="Turn queue off",
        parameters=_NAME,
        request=ReasonSerializer,
        responses=_TURNED,
    )
    @action(detail=True, methods=["post"])
    def off(self, request: Request, name: str) -> Response:
        """Nothing new is claimed from it; what runs goes on."""
        return self._turn(request, name, is_on=False)

    @extend_schema(
        summary="Turn queue on",
        parameters=_NAME,
        request=ReasonSerializer,
        responses=_TURNED,
    )
    @action(detail=True, methods=["post"])
    def on(self, request: Request, name: str) -> Response:
        """It is claimed from again, unless all queues are off."""
        return self._turn(request, name, is_on=True)

    @extend_schema(
        summary="Purge queue",
        parameters=_NAME,
        request=ReasonSerializer,
        responses=_COUNTED,
    )
    @action(detail=True, methods=["post"])
    def purge(self, request: Request, name: str) -> Response:
        """Cancel everything that waits in it; what runs goes on."""
        return Response({"count": _operator(request).purge(name, reason=_reason(request))})

    def _turn(self, request: Request, name: str, *, is_on: bool) -> Response:
        queue.check_queue(name)
        _operator(request).turn(name, is_on=is_on, reason=_reason(request))
        return self.retrieve(request, name)


class AllQueuesViewSet(viewsets.ViewSet):
    """The switch of all queues. Beside the queues, since a queue may have any name."""

    permission_model = "pg_queue.message"
    permission_classes = [SuperusersOnly]

    @extend_schema(summary="Turn all queues off", request=ReasonSerializer, responses=_ALL_TURNED)
    @action(detail=False, methods=["post"])
    def off(self, request: Request) -> Response:
        """Nothing new is claimed from any queue, also of those yet to come."""
        _operator(request).turn(None, is_on=False, reason=_reason(request))
        return _page(request)

    @extend_schema(summary="Turn all queues on", request=ReasonSerializer, responses=_ALL_TURNED)
    @action(detail=False, methods=["post"])
    def on(self, request: Request) -> Response:
        """Those whose own switch is not off are claimed from again."""
        _operator(request).turn(None, is_on=True, reason=_reason(request))
        return _page(request)


@documented("dead letter")
class DeadLetterViewSet(
    OrganizationScope,
    mixins.ListModelMixin,
    mixins.RetrieveModelMixin,
    mixins.DestroyModelMixin,
    viewsets.GenericViewSet,
):
    """Messages that failed for good, the last to die first."""

    queryset = DeadLetter.objects.all()
    serializer_class = DeadLetterSerializer
    filterset_class = DeadLetterFilter
    keyset = DEAD_LETTER_KEYSET
    permission_model = "pg_queue.deadletter"

    @extend_schema(summary="Replay dead letter", request=ReasonSerializer, responses=_COUNTED)
    @action(detail=True, methods=["post"])
    def replay(self, request: Request, pk: str) -> Response:
        """Let it run again, with all its attempts."""
        letter = self.get_object()
        replayed = _operator(request, letter.namespace).replay([letter.pk], reason=_reason(request))
        if not replayed:
            raise NotFound
        return Response({"count": len(replayed)})

    def perform_destroy(self, instance: DeadLetter) -> None:
        """Delete it for good, on record."""
        if not _operator(self.request, instance.namespace).drop([instance.pk]):
            raise NotFound


def _operator(request: Request, namespace: str | None = None) -> queue.Operator:
    """Acts on a namespace, or with None on the store's own."""
    return queue.Operator(f"{request.user.get_username()}: REST", namespace=namespace)


def _page(request: Request) -> Response:
    board = _Board(_operator(request))
    shown = {"all_queues": board.switches.get(None), "results": [board.shown(name) for name in board.names]}
    return Response(QueuePageSerializer(shown).data)


def _reason(request: Request) -> str:
    wanted = ReasonSerializer(data=request.data)
    wanted.is_valid(raise_exception=True)
    return str(wanted.validated_data["reason"])


class _Board:
    """Every queue's figures and switches, read once."""

    def __init__(self, operator: queue.Operator) -> None:
        self.switches = {one.queue: one for one in operator.store.switches.list()}
        self.depths = {depth.queue: depth for depth in operator.store.depths()}

    @property
    def names(self) -> list[str]:
        return sorted({*self.depths, *(name for name in self.switches if name is not None)})

    def shown(self, name: str) -> dict[str, Any]:
        depth = self.depths.get(name)
        figures = {key: getattr(depth, key) for key in _EMPTY} if depth else _EMPTY
        is_on = all(self.switches[key].is_on for key in (None, name) if key in self.switches)
        return {"name": name, "is_on": is_on, "switch": self.switches.get(name), **figures}
