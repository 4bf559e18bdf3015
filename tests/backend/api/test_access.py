"""Who gets in, how often, and what the document of the API says."""

from __future__ import annotations

import io

import pytest
from django.core.management import call_command
from rest_framework.authtoken.models import Token
from rest_framework.test import APIClient
from rest_framework.throttling import AnonRateThrottle

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("path", ["", "schedules/", "runs/", "tasks/", "pipelines/"])
def test_without_credentials_nothing_is_shown(path):
    answer = APIClient().get(f"/api/v1/{path}")
    assert answer.status_code == 401
    assert answer["WWW-Authenticate"] == "Token"


def test_a_token_lets_in(root):
    client = APIClient(HTTP_AUTHORIZATION=f"Token {Token.objects.create(user=root).key}")
    assert client.get("/api/v1/schedules/").status_code == 200
    assert APIClient(HTTP_AUTHORIZATION="Token wrong").get("/api/v1/schedules/").status_code == 401


def test_a_session_lets_in_and_needs_the_csrf_token_to_write(root):
    client = APIClient(enforce_csrf_checks=True)
    client.force_login(root)
    assert client.get("/api/v1/schedules/").status_code == 200
    assert client.post("/api/v1/schedules/", {}, format="json").status_code == 403


def test_requests_are_throttled(monkeypatch):
    monkeypatch.setattr(AnonRateThrottle, "THROTTLE_RATES", {"anon": "2/min"})
    codes = [APIClient().get("/api/v1/schema/").status_code for _ in range(3)]
    assert codes == [200, 200, 429]


@pytest.mark.parametrize(
    ("proxies", "forwarded", "codes"),
    [
        (0, ["1.1.1.1", "2.2.2.2", "3.3.3.3"], [200, 200, 429]),
        (1, ["1.1.1.1, 9.9.9.9", "2.2.2.2, 9.9.9.9", "3.3.3.3, 9.9.9.9"], [200, 200, 429]),
        (1, ["1.1.1.1, 7.7.7.7", "1.1.1.1, 8.8.8.8", "1.1.1.1, 9.9.9.9"], [200, 200, 200]),
    ],
)
def test_who_invents_the_address_it_comes_from_is_throttled_all_the_same(
    monkeypatch, settings, proxies, forwarded, codes
):
    monkeypatch.setattr(AnonRateThrottle, "THROTTLE_RATES", {"anon": "2/min"})
    if proxies:  # 0 is the default
        settings.REST_FRAMEWORK = {**settings.REST_FRAMEWORK, "NUM_PROXIES": proxies}
    asked = [APIClient(REMOTE_ADDR="10.0.0.1", HTTP_X_FORWARDED_FOR=f).get("/api/v1/schema/") for f in forwarded]
    assert [answer.status_code for answer in asked] == codes


def test_the_document_is_valid_and_without_a_warning():
    out = io.StringIO()
    call_command("spectacular", "--validate", "--fail-on-warn", stdout=out)
    text = out.getvalue()
    for path in ("pause", "resume", "run", "next", "runs"):
        for resource in ("schedules", "pipelines"):
            assert f"/api/v1/{resource}/{{id}}/{path}/:" in text
    for path in ("pipelines/", "runs/", "tasks/", "messages/{id}/"):
        assert f"/api/v1/{path}:" in text


def test_the_documentation_page_loads_nothing_from_elsewhere(client):
    page = client.get("/api/docs/")
    assert page.status_code == 200
    assert b"//cdn" not in page.content
    assert b'src="http' not in page.content
    policy = page["Content-Security-Policy"]
    assert "script-src 'self';" in policy
    assert "default-src 'none'" in policy
