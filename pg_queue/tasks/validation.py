"""Arguments and results checked by a function's type hints. The checking is pydantic's, which only this module imports.

An argument is checked as JSON holds it, strictly: an ISO 8601 text is a `datetime` and an object a dataclass, but `"5"`
is no `int`. (pydantic, "Strict mode": in JSON, types that JSON lacks are accepted in their usual textual form.)
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import StrEnum
from functools import cached_property
from importlib.util import find_spec
from typing import Any, get_type_hints

from pg_queue.domain import Json
from pg_queue.errors import Configuration, InvalidArguments, InvalidMessage

_SIMPLE = (str, int, float, bool, type(None))
_WHOLE = "Input should be "
"""How most of pydantic's messages begin."""
Kind = inspect._ParameterKind


class Validation(StrEnum):
    """What of a task is checked by its type hints."""

    NONE = "none"
    INPUTS = "inputs"
    """Its arguments, where they are enqueued and again before it runs."""
    OUTPUTS = "outputs"
    """What it returns."""
    STRICT = "strict"
    """Both."""


class Refused(Exception):
    """An argument or a result is not what its type hint says: of no use to try again. `kind` is the failure's type."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        super().__init__(kind)


class Checks:
    """The type hints of one function, as checks. They are read at the first use: they may name what is made later."""

    def __init__(
        self, task: str, function: Callable[..., Any], signature: inspect.Signature, validation: Validation
    ) -> None:
        """Raises: ValueError for a function without hints for what is to be checked; Configuration without pydantic."""
        self._task, self._function, self._signature = task, function, signature
        self.of_inputs = validation in (Validation.INPUTS, Validation.STRICT)
        self.of_outputs = validation in (Validation.OUTPUTS, Validation.STRICT)
        self._refuse_bare()
        if find_spec("pydantic") is None:
            raise Configuration(
                f"task {task!r}: validate: expected pydantic, which does the checking, to be installed; "
                "pip install 'django-downbeat[validation]'"
            )

    def check(self) -> None:
        """Read the hints now. Raises: Configuration for hints that cannot be resolved, or not be checked."""
        _ = self._adapters

    def as_json(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[list[Json], dict[str, Json]]:
        """The arguments as a message holds them: what is no JSON but what a hint says (a `datetime`) is made JSON.

        Raises: InvalidArguments naming the argument; Configuration, see `check`.
        """
        self._bind(args, kwargs)
        plain = [_plain(value, "args", self._label(at)) for at, value in enumerate(args)]
        named = {name: _plain(value, "kwargs", name) for name, value in kwargs.items()}
        self.as_values(plain, named)
        return plain, named

    def as_values(self, args: Sequence[Json], kwargs: Mapping[str, Json]) -> tuple[list[Any], dict[str, Any]]:
        """A message's arguments as the function expects them. Raises: as `as_json`."""
        self._bind(args, kwargs)
        return (
            [self._converted(self._of_place(at), value, "args", self._label(at)) for at, value in enumerate(args)],
            {name: self._converted(self._of_name(name), value, "kwargs", name) for name, value in kwargs.items()},
        )

    def result(self, value: Any) -> Json:
        """What the function returned, as JSON. Raises: InvalidMessage (field `result`); Configuration, see `check`."""
        from pydantic import ValidationError

        try:
            checked = self._adapters["return"].validate_python(value, strict=True)
        except ValidationError as error:
            field, expected, got = _told(error, "result", "it")
            raise InvalidMessage(field=field, expected=expected, got=got) from None
        return _plain(checked, "result", "it", InvalidMessage)

    @cached_property
    def _adapters(self) -> dict[str, Any]:
        """By the parameter's name; a hint for all that has none."""
        from pydantic import TypeAdapter

        try:
            hints = get_type_hints(self._function, include_extras=True)
            names = {*self._signature.parameters} if self.of_inputs else set()
            names |= {"return"} if self.of_outputs else set()
            return {name: TypeAdapter(hints.get(name, Any)) for name in names}
        except Exception as error:  # a hint may be any expression
            raise Configuration(
                f"task {self._task!r}: validate: expected type hints that can be read and checked, "
                f"got: {self._signature}; {type(error).__name__}: {error}"
            ) from error

    @cached_property
    def _places(self) -> list[str]:
        kinds = (Kind.POSITIONAL_ONLY, Kind.POSITIONAL_OR_KEYWORD)
        return [one.name for one in self._signature.parameters.values() if one.kind in kinds]

    def _of_place(self, at: int) -> str:
        return self._places[at] if at < len(self._places) else self._collecting(Kind.VAR_POSITIONAL)

    def _of_name(self, name: str) -> str:
        found = self._signature.parameters.get(name)
        collects = (Kind.VAR_POSITIONAL, Kind.VAR_KEYWORD, Kind.POSITIONAL_ONLY)
        return name if found is not None and found.kind not in collects else self._collecting(Kind.VAR_KEYWORD)

    def _collecting(self, kind: Kind) -> str:
        return next(one.name for one in self._signature.parameters.values() if one.kind is kind)

    def _label(self, at: int) -> str:
        return self._places[at] if at < len(self._places) else f"{self._of_place(at)}[{at - len(self._places)}]"

    def _bind(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        try:
            self._signature.bind(*args, **kwargs)
        except TypeError as error:
            got = f"{len(args)} positional arguments and {sorted(kwargs)}"
            raise InvalidArguments(
                field="args", expected=f"the arguments of {self._task}{self._signature} ({error})", got=got
            ) from None

    def _converted(self, parameter: str, value: Json, field: str, label: str) -> Any:
        from pydantic import ValidationError

        try:
            return self._adapters[parameter].validate_json(json.dumps(value), strict=True)
        except ValidationError as error:
            field, expected, got = _told(error, field, label)
            raise InvalidArguments(field=field, expected=expected, got=got) from None

    def _refuse_bare(self) -> None:
        parameters = self._signature.parameters.values()
        if self.of_inputs and parameters and all(one.annotation is one.empty for one in parameters):
            self._refuse("a function whose parameters have type hints")
        if self.of_outputs and self._signature.return_annotation is inspect.Signature.empty:
            self._refuse("a function with a type hint for what it returns")

    def _refuse(self, expected: str) -> None:
        raise ValueError(f"task {self._task!r}: validate: expected {expected}, got: {self._signature}")


def _plain(value: Any, field: str, label: str, kind: type[InvalidMessage] = InvalidArguments) -> Json:
    from pydantic_core import PydanticSerializationError, to_jsonable_python

    if type(value) in _SIMPLE:
        return value
    try:
        return to_jsonable_python(value)
    except (PydanticSerializationError, ValueError, RecursionError) as error:
        raise kind(field=field, expected=f"{label} to be what JSON can hold ({error})", got=value) from None


def _told(error: Any, field: str, label: str) -> tuple[str, str, Any]:
    """The first of pydantic's errors: the field, what was expected and what was got."""
    first, *others = error.errors(include_url=False, include_context=False)
    path, text = label + "".join(_steps(first["loc"])), first["msg"]
    expected = f"{path} to be {text.removeprefix(_WHOLE)}" if text.startswith(_WHOLE) else f"a valid {path} ({text})"
    return field, f"{expected} (and {len(others)} more)" if others else expected, first["input"]


def _steps(location: tuple[int | str, ...]) -> Iterator[str]:
    for step in location:
        yield f"[{step}]" if isinstance(step, int) else f".{step}"
