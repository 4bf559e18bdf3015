"""Hand-overs to PG that meet something else: a lost connection, an edit, the removal of canaries."""

from __future__ import annotations

import threading
import uuid
from typing import Any

import pytest
from django.db import InterfaceError, OperationalError, connection, transaction
from django.db.transaction import TransactionManagementError
from django_celery_beat.models import PeriodicTask

from scheduler.api import PgPeriodicSchedule
from scheduler.beat import canary
from scheduler.cutover import promotion
from scheduler.cutover.arrival import remove_unneeded_canaries
from tests.scheduler.cutover.conftest import Beat
from tests.scheduler.cutover.test_promotion import Made, canaries, now_is, promote
from tests.scheduler.schedules.conftest import Hands

pytestmark = pytest.mark.django_db


@pytest.mark.django_db(transaction=True)
def test_a_connection_that_is_lost_in_a_batch_is_not_told_as_done(
    made_before: Made, hands: Hands, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = sorted((made_before(expression="* * * * *", dialect="celery") for _ in range(2)), key=lambda row: row.pk)
    follow = promotion.following.follow

    def lose(schedule_id: uuid.UUID) -> Any:
        if schedule_id == made[-1].pk:
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_terminate_backend(pg_backend_pid())")
        return follow(schedule_id)

    monkeypatch.setattr(promotion.following, "follow", lose)
    with pytest.raises((OperationalError, InterfaceError, TransactionManagementError)):
        promote(*made, is_beat_stopped=True)
    connection.close()
    assert {now_is(row).firer for row in made} == {"beat"}


@pytest.mark.django_db(transaction=True)
def test_an_edit_in_beats_own_admin_and_a_promotion_wait_for_each_other_in_one_order(
    made_before: Made, beat: Beat, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = sorted((made_before(expression="* * * * *", dialect="celery") for _ in range(2)), key=lambda row: row.pk)
    is_held, may_go_on = threading.Event(), threading.Event()
    errors: list[Exception] = []

    def edit() -> None:
        try:
            with transaction.atomic():
                task = PeriodicTask.objects.select_for_update().get(name=made[1].beat_name)
                is_held.set()
                assert may_go_on.wait(60)
                task.description = "edited"
                task.save()
        except OperationalError as error:
            errors.append(error)
        finally:
            connection.close()

    editing = threading.Thread(target=edit)
    editing.start()
    assert is_held.wait(60)
    follow = promotion.following.follow

    def followed(schedule_id: uuid.UUID) -> Any:
        if schedule_id == made[1].pk:
            may_go_on.set()
        return follow(schedule_id)

    monkeypatch.setattr(promotion.following, "follow", followed)
    answers = promote(*made)
    editing.join()
    assert (errors, {answer.status.value for answer in answers}) == ([], {"waiting"})


def test_a_canary_that_is_planted_while_others_are_removed_stays(
    every_minute: PgPeriodicSchedule, beat: Beat, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = canary.names

    def names_and_promote() -> list[str]:
        found = names()
        promote(every_minute)
        return found

    monkeypatch.setattr(canary, "names", names_and_promote)
    assert remove_unneeded_canaries() == 0
    assert len(canaries()) == 1
