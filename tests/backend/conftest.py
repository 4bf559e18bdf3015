"""People, organizations and clients."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.core.cache import cache
from django.test import Client
from rest_framework.test import APIClient

from backend.pipelines.models import Membership, Organization, Pipeline, PipelineStep
from scheduler import api

ALL = "all"


@pytest.fixture(autouse=True)
def _quick_passwords(settings: Any) -> None:
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


@pytest.fixture(autouse=True)
def _no_throttle_left() -> Iterator[None]:
    cache.clear()
    yield
    cache.clear()


@pytest.fixture
def default(db: None) -> Organization:
    return Organization.objects.get(slug="default")


@pytest.fixture
def acme(db: None) -> Organization:
    return Organization.objects.create(slug="acme", name="Acme")


@pytest.fixture
def make_user(db: None) -> Callable[..., User]:
    """`make_user("ann", organization, permissions=["scheduler.view_pgperiodicschedule"])`; `ALL`: every permission."""

    def make(name: str, *organizations: Organization, permissions: Any = ALL, staff: bool = False) -> User:
        user = User.objects.create_user(name, password="a-long-password", is_staff=staff)
        Membership.objects.bulk_create(Membership(user=user, organization=o) for o in organizations)
        wanted = Permission.objects.all()
        if permissions != ALL:
            names = [tuple(p.split(".")) for p in permissions]
            wanted = [Permission.objects.get(content_type__app_label=a, codename=c) for a, c in names]
        user.user_permissions.set(wanted)
        return user

    return make


@pytest.fixture
def root(db: None) -> User:
    return User.objects.create_superuser("root", password="a-long-password")


@pytest.fixture
def as_user() -> Callable[[User], APIClient]:
    def login(user: User) -> APIClient:
        client = APIClient()
        client.force_authenticate(user)
        return client

    return login


@pytest.fixture
def rest(root: User, as_user: Callable[[User], APIClient]) -> APIClient:
    """A superuser's REST client."""
    return as_user(root)


@pytest.fixture
def browser(root: User) -> Client:
    """A superuser's browser, logged in."""
    client = Client()
    client.force_login(root)
    return client


@pytest.fixture
def make_schedule(db: None) -> Callable[..., api.PgPeriodicSchedule]:
    def make(**values: Any) -> api.PgPeriodicSchedule:
        return api.create_schedule(**{"name": "Nightly", "task": "echo", "expression": "0 3 * * *", **values})

    return make


@pytest.fixture
def make_pipeline(default: Organization) -> Callable[..., Pipeline]:
    def make(*steps: dict[str, Any], **values: Any) -> Pipeline:
        pipeline = Pipeline(**{"name": "Load", "expression": "0 3 * * *", **values})
        pipeline.save()
        for position, step in enumerate(steps, start=1):
            PipelineStep.objects.create(pipeline=pipeline, position=position, **step)
        return pipeline

    return make
