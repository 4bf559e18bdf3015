"""Names whoever makes a request, for the notes of what was changed."""

from __future__ import annotations

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse

from scheduler.api import acting_as


class NameActor:
    """Middleware: changes of schedules during the request are its user's."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        # Asked when a change is made: REST knows its user by token only then.
        with acting_as(lambda: request.user.get_username() if hasattr(request, "user") else ""):
            return self.get_response(request)
