"""What the query of a list in the admin may ask for."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest


class OfferedLookups:
    """Mixin of a model admin: a list's query may name what a filter of the list offers, and nothing else (400).

    Django lets it name every lookup of every column: a bad regular expression crashes, and any one scans the table.
    """

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest) -> bool:
        """Whether a filter reads the parameter."""
        return any(lookup in _parameters(one) for one in self.get_list_filter(request))  # type: ignore[attr-defined]


def _parameters(one: Any) -> set[str]:
    """The parameters of an entry of `list_filter`: a filter's class, a column, or a column and its filter's class."""
    if name := getattr(one, "parameter_name", None):
        return {name}
    column = one if isinstance(one, str) else one[0]
    return {column, f"{column}__exact", f"{column}__isnull"}
