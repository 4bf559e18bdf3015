"""A store whose own namespace is not the empty one: also what is enqueued by SQL, and woken by it, is that tenant's."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest
from django.db import connection
from django.test import override_settings

from pg_queue import api
from pg_queue.models import Message
from tests.contract.actions import hears

pytestmark = pytest.mark.django_db(transaction=True, available_apps=["pg_queue"])


@pytest.fixture(autouse=True)
def tenant() -> Iterator[None]:
    """The default store is a tenant's."""
    with override_settings(PG_QUEUE={"STORES": {"default": {"NAMESPACE": "acme"}}}):
        yield
    Message.objects.all().delete()


def enqueue_by_sql() -> None:
    source = f"""
        SELECT {api.NEW_ID_SQL} AS id, 'q' AS queue, 5 AS priority, 'noop' AS task, '[]'::jsonb AS args,
               '{{}}'::jsonb AS kwargs, '{{}}'::jsonb AS headers, '' AS organization_id, NULL AS report_to,
               NULL::smallint AS max_attempts, NULL::timestamptz AS run_after
    """
    with connection.cursor() as cursor:
        cursor.execute(f"WITH due AS MATERIALIZED ({source}), sent AS ({api.enqueue_sql('due')}) SELECT 1", [])
        cursor.execute(api.wake_sql(), {"queues": ["q"]})


def test_what_is_enqueued_by_sql_is_the_default_stores() -> None:
    enqueue_by_sql()
    assert [depth.queue for depth in api.depths()] == ["q"]
    assert list(api.store().within("").depths()) == []
    assert len(api.store().claim(queues=["q"], limit=9, lease=timedelta(seconds=9), worker="w")) == 1


def test_waking_by_sql_wakes_the_default_stores_workers_only() -> None:
    own, others = api.store().listen(["q"]), api.store().within("").listen(["q"])
    assert own.connect()
    assert others.connect()
    try:
        enqueue_by_sql()
        assert hears(own)
        assert not hears(others, 0.3)
    finally:
        own.close()
        others.close()
