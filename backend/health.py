"""The web process's `/healthz`, `/readyz` and `/metrics`: without login, for probes and Prometheus.

They show counts and names of queues, no payload and no name of a schedule; keep them inside your network all the same.
"""

from __future__ import annotations

from django.core.cache import cache
from django.db import DEFAULT_DB_ALIAS, connections
from django.db import Error as DatabaseFailure
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.http import require_safe
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from backend.metrics import registry
from pg_queue.api import missing_migrations


@require_safe
def healthz(request: HttpRequest) -> JsonResponse:
    """200 while the process answers."""
    return JsonResponse({"status": "ok"})


@require_safe
def readyz(request: HttpRequest) -> JsonResponse:
    """200 when the database answers and is migrated, otherwise 503 with what is missing."""
    problems = _problems()
    return JsonResponse({"status": "unready" if problems else "ready", **problems}, status=503 if problems else 200)


@require_safe
def metrics(request: HttpRequest) -> HttpResponse:
    """Prometheus text, read from the database as it is scraped; 503 while the database cannot be reached."""
    try:
        return HttpResponse(generate_latest(registry()), content_type=CONTENT_TYPE_LATEST)
    except DatabaseFailure:
        return HttpResponse("# the database cannot be reached\n", status=503, content_type=CONTENT_TYPE_LATEST)


def _problems() -> dict[str, object]:
    alias = DEFAULT_DB_ALIAS
    try:
        with connections[alias].cursor() as cursor:
            cursor.execute("SELECT 1")
        # A migrated database stays migrated: asked again at every probe only until it is.
        if cache.get("readyz.migrated"):
            return {}
        missing = missing_migrations(alias)
    except DatabaseFailure:  # what it says may name hosts and roles, and anybody may ask
        return {"database": "cannot be reached"}
    if missing:
        return {"migrations": missing}
    cache.set("readyz.migrated", True, 60)
    return {}
