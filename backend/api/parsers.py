"""How a body is read."""

from __future__ import annotations

from typing import Any

from rest_framework import parsers
from rest_framework.exceptions import ParseError


class JSONParser(parsers.JSONParser):
    """DRF's; a body that is nested deeper than Python's parser follows is the caller's fault, not a crash."""

    def parse(self, stream: Any, media_type: str | None = None, parser_context: Any = None) -> Any:
        """As DRF's. Raises `ParseError`."""
        try:
            return super().parse(stream, media_type, parser_context)
        except RecursionError:
            raise ParseError("expected JSON of a few levels of lists and objects, got: too many") from None
