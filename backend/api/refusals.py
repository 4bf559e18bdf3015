"""How a refusal reaches the caller: 400 with `{"field": ["expected …, got: …"]}`, whoever refused."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.conf import settings
from django.core.exceptions import RequestDataTooBig, TooManyFieldsSent, TooManyFilesSent
from django.db import IntegrityError, InterfaceError, OperationalError
from rest_framework import exceptions
from rest_framework.response import Response
from rest_framework.views import exception_handler

from backend.pipelines import services
from pg_queue import api as queue
from scheduler.errors import HandoverRefused, InvalidInput, ScheduleNotFound, SchedulerError

RENAMED = {"organization_id": "organization", "schedule_id": "id", "pipeline_name": "name", "cron_string": "expression"}
"""A choke point's argument and its name in REST."""


class Unavailable(exceptions.APIException):
    """The database, or the store of messages, cannot be reached: whether the thing is there is not known."""

    status_code = 503
    default_code = "unavailable"
    default_detail = "the store cannot be reached; try again"


class Conflict(exceptions.APIException):
    """As things are, it cannot be done: its text says why, and what to do."""

    status_code = 409
    default_code = "conflict"


def handle(error: Exception, context: dict[str, Any]) -> Response | None:
    """DRF's exception handler: turns the errors of both apps into answers, and leaves every other as it is."""
    return exception_handler(translate(error, context), context)


def translate(error: Exception, context: dict[str, Any]) -> Exception:
    """The API's exception for `error`, or `error` itself."""
    if isinstance(error, IntegrityError):
        error = services.refusal(error, _name_in(context)) or error
    if isinstance(error, InvalidInput | queue.InvalidMessage):
        return exceptions.ValidationError({RENAMED.get(error.field, error.field): [message(error.expected, error.got)]})
    if isinstance(error, queue.StoreUnavailable | queue.ResultsUnavailable | OperationalError | InterfaceError):
        return Unavailable()  # what the error says may name hosts and roles
    if isinstance(error, ScheduleNotFound):
        return exceptions.NotFound()
    if isinstance(error, HandoverRefused):
        return Conflict(str(error))
    if isinstance(error, SchedulerError):
        return exceptions.ValidationError({"non_field_errors": [str(error)]})
    if isinstance(error, RequestDataTooBig | TooManyFieldsSent | TooManyFilesSent):
        return exceptions.ParseError(f"expected a body of at most {settings.DATA_UPLOAD_MAX_MEMORY_SIZE} bytes")
    return error


def message(expected: str, got: object) -> str:
    """The one form of a refusal's text; a value that is long is shortened."""
    text = got.isoformat() if isinstance(got, datetime) else repr(got)
    return f"expected {expected}, got: {text if len(text) <= 120 else text[:119] + '…'}"


def _name_in(context: dict[str, Any]) -> str:
    data = getattr(context.get("request"), "data", {})
    return str(data.get("name", "")) if hasattr(data, "get") else ""
