"""Lists of tables that are too large to count."""

from __future__ import annotations

from django.contrib.admin.views.main import ChangeList
from django.http import HttpRequest


class UncountedChangeList(ChangeList):
    """Offers to show all only where something is filtered out: how many rows there are besides, it does not know."""

    def get_results(self, request: HttpRequest) -> None:
        """As Django's."""
        super().get_results(request)
        if not self.query and not self.has_active_filters:
            self.full_result_count = self.result_count
