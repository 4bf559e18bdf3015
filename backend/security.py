"""What holds for every page: nothing is loaded from elsewhere, no inline script runs, no NUL reaches the database."""

from __future__ import annotations

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse, HttpResponseBadRequest

STRICT = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
    "connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
# Swagger UI sets style attributes; its scripts come from our own files.
DOCUMENTATION = STRICT.replace("style-src 'self'", "style-src 'self' 'unsafe-inline'")
DOCUMENTATION_PATH = "/api/docs/"


class ContentSecurityPolicy:
    """Middleware that sets the policy where a view has not set its own."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        policy = DOCUMENTATION if request.path == DOCUMENTATION_PATH else STRICT
        response.headers.setdefault("Content-Security-Policy", policy)
        return response


class NoNul:
    """Refuses a NUL in the path or the query of a page, where a view would crash (500).

    PostgreSQL cannot compare with one, and no file is named by one. REST answers for itself, by the parameter's name.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """The response, or 400."""
        if request.path.startswith("/api/"):
            return self.get_response(request)
        for name, is_there in (
            ("path", "\0" in request.path),
            ("query", "%00" in request.META.get("QUERY_STRING", "")),
        ):
            if is_there:
                return HttpResponseBadRequest(f"expected a {name} without NUL (%00)", content_type="text/plain")
        return self.get_response(request)
