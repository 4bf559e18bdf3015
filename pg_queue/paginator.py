"""Pages of tables that are too large to count."""

from __future__ import annotations

from functools import cached_property
from typing import cast

from django.core.paginator import Paginator
from django.db.models import Model, QuerySet

MOST_ROWS = 10_000


class BoundedPaginator(Paginator):  # type: ignore[type-arg]
    """Counts at most `MOST_ROWS` rows, and offers no page beyond them: filter to see older ones."""

    @cached_property
    def count(self) -> int:
        """How many rows there are, `MOST_ROWS` when there are more."""
        rows = cast("QuerySet[Model]", self.object_list)
        return rows.order_by()[:MOST_ROWS].count()

    @property
    def is_bounded(self) -> bool:
        """Whether there may be more rows than were counted."""
        return self.count == MOST_ROWS
