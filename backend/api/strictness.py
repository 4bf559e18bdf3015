"""Serializers that say what they expected, and accept no field that they do not know."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any, overload
from uuid import UUID

from rest_framework import serializers
from rest_framework.request import Request

from backend.api.refusals import message


class InstantField(serializers.DateTimeField):
    """An instant with its offset. A naive one is refused: nobody knows which instant it means."""

    def enforce_timezone(self, value: datetime) -> datetime:
        """As DRF's, without guessing a time zone."""
        if value.tzinfo is None:
            self.fail("make_aware", timezone="UTC")
        return super().enforce_timezone(value)


@overload
def instant(name: str, text: str) -> datetime: ...
@overload
def instant(name: str, text: None) -> None: ...
def instant(name: str, text: str | None) -> datetime | None:
    """A query parameter's instant; None stays None. Raises `ValidationError` under its name."""
    if text is None:
        return None
    try:
        read: datetime = InstantField().to_internal_value(text)
    except (serializers.ValidationError, OverflowError) as error:
        expected = "an ISO 8601 instant with an offset, such as 2026-12-01T10:00:00Z"
        raise serializers.ValidationError({name: [message(expected, text)]}) from error
    return read


def whole(request: Request, name: str, default: int, least: int, most: int) -> int:
    """A query parameter's whole number. Raises `ValidationError` under its name."""
    text = request.query_params.get(name, str(default))
    if not text.isascii() or not text.isdigit() or not least <= int(text[:12]) <= most:
        raise serializers.ValidationError({name: [message(f"a whole number from {least} to {most}", text)]})
    return int(text)


def identities(request: Request, name: str) -> list[UUID]:
    """A repeatable query parameter's UUIDs; none where it is not given. Raises `ValidationError` under its name."""
    found = []
    for text in request.query_params.getlist(name):
        try:
            found.append(UUID(text))
        except ValueError:
            raise serializers.ValidationError({name: [message("a UUID", text)]}) from None
    return found


def refuse_unknown_parameters(request: Request, known: Collection[str]) -> None:
    """A misspelt parameter would be answered as if it were not there. Raises `ValidationError` with each one's name."""
    known = {*known, "format"}
    if unknown := sorted(set(request.query_params) - known):
        expected = f"parameters among {', '.join(sorted(known))}"
        raise serializers.ValidationError({printable(name): [message(expected, name)] for name in unknown})


class StrictSerializer(serializers.Serializer):
    """Refuses unknown fields by name, and words each refusal as `expected …, got: …`.

    Read-only fields in a body are ignored, so that what was read can be written back.
    """

    def to_internal_value(self, data: Any) -> Any:
        """As DRF's. Raises `ValidationError` with one entry per refused field."""
        if isinstance(data, Mapping):
            self._refuse_unknown(data)
        try:
            return super().to_internal_value(data)
        except serializers.ValidationError as error:
            raise serializers.ValidationError(self._worded(error.detail, data)) from error

    def _refuse_unknown(self, data: Mapping[str, Any]) -> None:
        unknown = sorted(set(data) - set(self.fields))
        if unknown:
            expected = f"fields among {', '.join(n for n, f in self.fields.items() if not f.read_only)}"
            raise serializers.ValidationError({printable(name): [message(expected, name)] for name in unknown})

    def _worded(self, detail: Any, data: Any) -> Any:
        if not isinstance(detail, Mapping):
            return detail
        return {name: self._word(name, errors, data) for name, errors in detail.items()}

    def _word(self, name: str, errors: Any, data: Any) -> Any:
        field = self.fields.get(name)
        if field is None or not isinstance(data, Mapping):
            return errors
        if isinstance(field, serializers.BaseSerializer) and isinstance(data.get(name), list | dict):
            return errors  # they name the fields inside
        if name not in data:
            return [f"expected {expectation(field)}, got nothing"]
        if all(str(error).startswith("expected ") for error in errors):
            return errors  # a validator's own words
        return [message(expectation(field) + _unfit(data[name]), data[name])]


def printable(name: str) -> str:
    """`name` with each half of a surrogate pair escaped: UTF-8, and so the answer, cannot hold one."""
    return name.encode(errors="backslashreplace").decode()


def _unfit(value: object) -> str:
    """What a string that is refused for its characters should not hold."""
    if isinstance(value, str) and ("\x00" in value or printable(value) != value):
        return " without NUL and unpaired surrogates"
    return ""


def expectation(field: serializers.Field) -> str:
    """What `field` accepts, in words."""
    if isinstance(field, serializers.ChoiceField):
        return f"one of {', '.join(map(str, field.choices))}"
    if isinstance(field, serializers.IntegerField):
        return _integer(field)
    for kind, words in _WORDS.items():
        if isinstance(field, kind):
            return words
    return f"a string of 1 to {field.max_length} characters" if getattr(field, "max_length", None) else "a string"


def _integer(field: serializers.IntegerField) -> str:
    if field.max_value is None:
        return "a whole number"
    return f"a whole number from {field.min_value} to {field.max_value}"


_WORDS: dict[type[serializers.Field], str] = {
    serializers.DateTimeField: "an ISO 8601 instant with an offset, such as 2030-01-31T06:00:00Z",
    serializers.BooleanField: "true or false",
    serializers.FloatField: "a number",
    serializers.ListSerializer: "a list of objects",
    serializers.ListField: "a list",
    serializers.DictField: "an object",
    serializers.BaseSerializer: "an object",
}
