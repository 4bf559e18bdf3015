"""How a pipeline's schedule follows its pipeline: the only place of the pipelines that calls `scheduler.api`."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.apps import apps
from django.db import IntegrityError

from backend.pipelines.domain import RUN_TASK
from pg_queue import api as queue
from scheduler import api
from scheduler.domain import ScheduleKind
from scheduler.errors import InvalidInput, ScheduleNotFound

if TYPE_CHECKING:
    from backend.pipelines.models import Pipeline

FOLLOWED = {"name": "name", "expression": "expression", "timezone": "timezone", "dialect": "dialect"}
"""A pipeline's field and the schedule's that follows it."""
_UNIQUE_NAME_ON_SQLITE = "pipelines_pipeline.organization_id, pipelines_pipeline.name"
NOT_ACTIVE = "Its pipeline is not active"
A_SCHEDULE = "a pipeline with a schedule (its own was deleted: save the pipeline to make a new one)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """A pipeline as it is stored, locked until the transaction ends."""

    pipeline: Pipeline | None
    """None: it is not stored yet."""
    has_schedule: bool


def lock(pipeline_id: UUID) -> Stored:
    """The stored pipeline and its schedule, locked until the transaction ends.

    The schedule is locked first, as every change that starts on the schedule's side does: no deadlock.
    """
    held = api.hold_schedule(pipeline_id)
    pipeline: Pipeline | None = _pipelines().select_for_update(of=("self",)).filter(pk=pipeline_id).first()
    if held is None and pipeline is not None:
        held = api.hold_schedule(pipeline_id)  # whoever held the pipeline before may just have made it
    return Stored(pipeline=pipeline, has_schedule=held is not None)


def refresh(pipeline: Pipeline, keep: Collection[str] = ()) -> bool:
    """Lock the pipeline as `lock` does, and bring an instance that was read before up to date; False: it is gone.

    The fields named in `keep` stay as they are. Whoever changes some fields only calls this before `save()`, which
    writes all of them: what was changed meanwhile, such as a pause, would be undone. Joins the caller's transaction.
    """
    stored = lock(pipeline.pk).pipeline
    if stored is None:
        return False
    for field in stored._meta.concrete_fields:
        if field.name not in keep:
            setattr(pipeline, field.attname, getattr(stored, field.attname))
    return True


def lock_schedule(pipeline_id: UUID) -> None:
    """Lock the schedule of a pipeline that is about to be deleted, before the pipeline itself, as `lock` does."""
    api.hold_schedule(pipeline_id)


def normalise(pipeline: Pipeline) -> None:
    """Bring name and expression into the form in which the schedule stores them. Raises `InvalidInput`."""
    pipeline.name = pipeline.name.strip()
    pipeline.expression = api.normalise(ScheduleKind.CRONTAB, pipeline.expression, pipeline.dialect)


def write_schedule(pipeline: Pipeline, before: Stored) -> None:
    """Create the schedule of a pipeline that has none, or carry what changed into it. Joins the caller's transaction.

    A schedule that was deleted on its own is made anew when its pipeline is saved.

    Raises:
        InvalidInput: what the choke points refuse.
    """
    if before.pipeline is None or not before.has_schedule:
        _create(pipeline)
    elif changes := _changes(pipeline, before.pipeline):
        api.update_schedule(pipeline.pk, **changes)


def delete_schedule(pipeline_id: UUID) -> None:
    """Delete the schedule of a pipeline that is being deleted; one that is gone already is no error."""
    try:
        api.delete_schedule(pipeline_id)
    except ScheduleNotFound:
        return


def check_schedule_change(schedule_id: UUID, changes: Mapping[str, Any]) -> None:
    """Refuse a change, made on the schedule's side, that would part it from its pipeline; any other passes.

    Parted: it would not run the pipeline any more, or the pipeline could not follow it. `changes` by the choke points'
    names. A schedule that belongs to no pipeline may be changed at will.

    Raises:
        InvalidInput: field `task`, `args`, `kwargs` or `organization_id`; `name` when another pipeline has it.
    """
    pipeline = _pipelines().filter(pk=schedule_id).first()
    if pipeline is None:
        return
    for field, expected in _identity(pipeline).items():
        if field in changes and changes[field] != expected:
            words = f"{expected!r}, because the schedule is a pipeline's: edit the pipeline"
            raise InvalidInput(field=field, expected=words, got=changes[field])
    # The database refuses it too; but where Beat fires the schedule, its own row would bear the name by then.
    if "name" in changes and _is_taken(str(changes["name"]).strip(), pipeline):
        raise name_taken(changes["name"])


def _is_taken(name: str, pipeline: Pipeline) -> bool:
    others = _pipelines().filter(organization_id=pipeline.organization_id, name=name).exclude(pk=pipeline.pk)
    return bool(others.exists())


def _identity(pipeline: Pipeline) -> dict[str, Any]:
    """What makes a schedule the pipeline's."""
    return {
        "organization_id": str(pipeline.organization_id),
        "task": RUN_TASK,
        "args": [],
        "kwargs": {"pipeline_id": str(pipeline.pk)},
    }


def _create(pipeline: Pipeline) -> None:
    api.create_schedule(
        schedule_id=pipeline.pk,
        **_identity(pipeline),
        enabled=pipeline.active,
        pause_note="" if pipeline.active else NOT_ACTIVE,
        **{theirs: getattr(pipeline, ours) for ours, theirs in FOLLOWED.items()},
    )


def _changes(pipeline: Pipeline, before: Pipeline) -> dict[str, Any]:
    changes = {
        theirs: getattr(pipeline, ours)
        for ours, theirs in FOLLOWED.items()
        if getattr(pipeline, ours) != getattr(before, ours)
    }
    if pipeline.organization_id != before.organization_id:
        changes["organization_id"] = pipeline.organization_id
    if pipeline.active != before.active:
        changes |= {"enabled": pipeline.active, "pause_note": "" if pipeline.active else NOT_ACTIVE}
    return changes


def check_step(task: str, args: Any, kwargs: Any) -> None:
    """Raises `InvalidInput` for a task that is not registered, and for arguments that JSON or the bound refuses."""
    if task == RUN_TASK:
        raise InvalidInput(field="task", expected="a task other than the one that runs pipelines", got=task)
    if not isinstance(args, list):
        raise InvalidInput(field="args", expected="a list", got=args)
    if not isinstance(kwargs, dict):
        raise InvalidInput(field="kwargs", expected="an object with string keys", got=kwargs)
    try:
        queue.get_task(task)
        queue.validate_payload(args, kwargs, task=task)
    except queue.UnknownTask as error:
        raise InvalidInput(field="task", expected=_expected(error, "task"), got=task) from error
    except queue.InvalidMessage as error:
        raise InvalidInput(field=error.field, expected=error.expected, got=_short(error.got)) from error


def _expected(error: Exception, field: str) -> str:
    """What `error` expected: its text without the field before it; the value after it is repeated by the caller."""
    return str(error).removeprefix(f"{field}: expected ").partition(", got: ")[0]


def _short(value: object, limit: int = 120) -> object:
    return value if len(repr(value)) <= limit else f"{repr(value)[:limit]}…"


def name_taken(name: str) -> InvalidInput:
    """The refusal of a name that another pipeline of the organization has."""
    return InvalidInput(field="name", expected="a name that no other pipeline of the organization has", got=name)


def refusal(error: IntegrityError, name: str) -> InvalidInput | None:
    """The domain error that a violated constraint stands for, told by its name; None for any other."""
    from backend.pipelines.models import UNIQUE_NAME

    return name_taken(name) if _violated(error.__cause__) in (UNIQUE_NAME, _UNIQUE_NAME_ON_SQLITE) else None


def _violated(error: BaseException | None) -> str | None:
    """The constraint's name. SQLite knows it by its columns only, in the text of the error."""
    if isinstance(error, sqlite3.IntegrityError) and error.sqlite_errorname == "SQLITE_CONSTRAINT_UNIQUE":
        return str(error).rpartition(": ")[2]
    return getattr(getattr(error, "diag", None), "constraint_name", None)


def _pipelines() -> Any:
    return apps.get_model("pipelines", "Pipeline").objects
