"""The demo is made once for each database, and never in somebody else's name."""

from __future__ import annotations

import pytest
from django.contrib.auth import get_user_model
from django_celery_beat.models import PeriodicTask
from rest_framework.authtoken.models import Token

from backend.pipelines import demo, tasks
from backend.pipelines.models import Pipeline
from scheduler import api

pytestmark = pytest.mark.django_db
PASSWORD, ANOTHER = "a-long-password", "another-password"
FAULT = demo.identity(demo.BEATS_FAULT)


def everything():
    return [
        sorted(api.PgPeriodicSchedule.objects.values_list("pk", "updated_at")),
        sorted(Pipeline.objects.values_list("pk", "updated_at")),
        sorted(get_user_model().objects.values_list("username", "password")),
    ]


def test_seeding_twice_changes_nothing():
    first = demo.seed(PASSWORD)
    before = everything()
    assert demo.seed(PASSWORD) == first
    assert demo.seed(None).token == first.token
    assert everything() == before


def test_what_a_person_deleted_stays_deleted_and_its_name_is_free():
    demo.seed(PASSWORD)
    Pipeline.objects.get(pk=demo.identity("pipeline")).delete()
    api.delete_schedule(demo.identity("heartbeat"))
    own = Pipeline.objects.create(**demo.PIPELINE)
    before = everything()
    demo.seed(PASSWORD)
    assert everything() == before
    assert list(Pipeline.objects.values_list("pk", flat=True)) == [own.pk]


def test_a_database_that_has_a_pipeline_of_the_demos_name_keeps_its_own():
    own = Pipeline.objects.create(**demo.PIPELINE)
    assert demo.seed(PASSWORD) is not None
    assert list(Pipeline.objects.values_list("pk", flat=True)) == [own.pk]


def test_a_user_whom_the_demo_did_not_make_is_left_alone(django_user_model):
    admin = django_user_model.objects.create_user("admin", password=ANOTHER)
    django_user_model.objects.create_user("demo", password=ANOTHER)
    made = demo.seed(PASSWORD)
    assert made.username == "demo-2"
    assert made.has_password
    again = django_user_model.objects.get(pk=admin.pk)
    assert (again.password, again.is_superuser) == (admin.password, False)
    assert not Token.objects.filter(user=admin).exists()


def test_the_demos_own_user_gets_the_password_that_is_given_unless_it_is_to_be_kept(django_user_model):
    demo.seed(PASSWORD)
    assert demo.seed(ANOTHER, keep_password=True).has_password is False
    assert django_user_model.objects.get(username="admin").check_password(PASSWORD)
    assert demo.seed(ANOTHER).has_password
    assert django_user_model.objects.get(username="admin").check_password(ANOTHER)


def test_a_user_without_a_password_cannot_log_in_until_one_is_given(django_user_model):
    assert demo.seed(None).has_password is False
    assert not django_user_model.objects.get(username="admin").has_usable_password()


def test_the_demos_user_stays_deleted(django_user_model):
    demo.seed(PASSWORD)
    django_user_model.objects.get(username="admin").delete()
    assert demo.seed(PASSWORD) is None
    assert not django_user_model.objects.exists()


def beats_row():
    return PeriodicTask.objects.get(name=str(FAULT))


def test_what_beat_fires_is_made_once_where_there_is_a_beat_also_in_a_demo_of_before():
    demo.seed(PASSWORD)
    assert not api.PgPeriodicSchedule.objects.filter(firer="beat").exists()
    demo.seed(PASSWORD, with_beat=True)
    assert set(demo.BEAT_SCHEDULES) == {key for key in demo.BEAT_SCHEDULES if api.get_schedule(demo.identity(key))}
    api.delete_schedule(FAULT)
    before = everything()
    demo.seed(PASSWORD, with_beat=True)
    assert everything() == before


def test_the_schedule_of_beats_fault_is_switched_on_as_of_before_its_pause():
    demo.seed(PASSWORD, with_beat=True)
    before = beats_row()
    assert tasks.switch_in_beat() == {"enabled": True}
    assert (beats_row().enabled, beats_row().last_run_at) == (True, before.last_run_at)
    assert beats_row().date_changed == before.date_changed  # from which Beat counts where it has no last run
    assert api.get_schedule(FAULT).enabled
    assert tasks.switch_in_beat() == {"enabled": False}
    assert not api.get_schedule(FAULT).enabled


def test_a_schedule_that_is_gone_or_not_beats_any_more_is_not_switched():
    demo.seed(PASSWORD, with_beat=True)
    api.PgPeriodicSchedule.objects.filter(pk=FAULT).update(firer="pg")
    assert tasks.switch_in_beat() == {"enabled": None}
    assert not beats_row().enabled
    beats_row().delete()
    assert tasks.switch_in_beat() == {"enabled": None}
