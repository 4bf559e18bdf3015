"""What a claim says of organizations' turns, besides what is in the database: the rules, and where to look first."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from typing import Any

from pg_queue.domain import Claim
from pg_queue.settings import QueueSettings

AGING_EVERY = 16
"""Of so many claims, one begins with what has been due for long."""


class Turns:
    """One store's claims, one after the other. Safe in parallel: what is lost in a race is only where a scan begins."""

    def __init__(self, conf: QueueSettings) -> None:
        self._aging_seconds = conf.aging_seconds
        self._rules = json.dumps(
            {
                "weights": dict(conf.turns.weights),
                "default_weight": conf.turns.default_weight,
                "max_running": dict(conf.turns.most_by_name),
                "most_running": conf.turns.most_of_each,
                "is_limited": conf.turns.is_limited,
            }
        )
        self._numbers = itertools.count(1)
        self._last: dict[tuple[str, int], str] = {}
        self._starts: dict[str, str] = {}

    def parameters(self) -> dict[str, Any]:
        """Of the statement `claim`, for the next claim."""
        is_for_aged = next(self._numbers) % AGING_EVERY == 0
        return {
            "rules": self._rules,
            "starts": json.dumps(self._starts),
            "aged": self._aging_seconds if is_for_aged else None,
        }

    def note(self, claims: Sequence[Claim]) -> None:
        """Let the next scan of a slot begin after one of the organizations that had their turn in this one.

        So where there are more of them than one claim looks at, claim after claim goes round. A slot in which only one
        was ever seen has no such place.
        """
        if not claims:
            return
        message = claims[-1].message
        slot, organization = (message.queue, message.priority), message.organization_id
        if self._last.setdefault(slot, organization) != organization:
            self._last[slot] = organization
            self._starts[f"{message.queue} {message.priority}"] = f"{organization} "
