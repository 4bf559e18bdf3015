"""Whose messages are next: within a slot (a queue and a priority) the organizations take turns.

Each claim shares out what it wants among the organizations that have something due, in proportion to their weights. The
shares are those of systematic sampling, a random order and one random number for where it begins, so that each gets its
exact share in the long run, also where a claim wants one message. What an organization does not use goes to the others,
round by round.
"""

from __future__ import annotations

import itertools
import json
import math
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from pg_queue.fairness import FairnessSettings
from pg_queue.settings import QueueSettings
from pg_queue.sql import statements
from pg_queue.sqlite import as_text
from pg_queue.storage.sqlite.session import Row, Session, after

AGING_EVERY = 16
"""Of so many claims, one begins with what has been due for long."""

MOST_ORGANIZATIONS = 256
"""Looked at in one slot by one claim. Where more wait, the next claim goes on where this one ended."""

Slot = tuple[str, int]


class Choice:
    """What one claim has chosen so far, and what it may choose still."""

    def __init__(
        self, rules: FairnessSettings, running: Mapping[str, int], wanted: int, hold: Callable[[Sequence[str]], None]
    ) -> None:
        self.wanted = wanted
        """How many messages more."""
        self._rules, self._running, self._hold = rules, Counter(running), hold

    def allowance(self, organization: str) -> float:
        """How many messages more the organization may run; infinity: as many as there are."""
        most = self._rules.most_by_name.get(organization, self._rules.most_of_each)
        return math.inf if most is None else max(0, most - self._running[organization])

    @property
    def full(self) -> list[str]:
        """The organizations that run as much as they may."""
        return [name for name in self._running if not self.allowance(name)]

    def take(self, chosen: Sequence[tuple[str, str]]) -> None:
        """Choose these, each an organization and a message's id, in this order."""
        self._hold([message_id for _, message_id in chosen])
        self._running.update(organization for organization, _ in chosen)
        self.wanted -= len(chosen)


class Turns:
    """One store's claims, one after the other. Safe in parallel: what is lost in a race is only where a scan begins."""

    def __init__(self, session: Session, namespace: str, conf: QueueSettings) -> None:
        self._session, self._namespace = session, namespace
        self._rules, self._aging_seconds = conf.turns, conf.aging_seconds
        self._statements = statements("messages", "sqlite")
        self._numbers = itertools.count(1)
        self._starts: dict[Slot, str] = {}

    def choose(self, slots: Sequence[Slot], limit: int, now: datetime, hold: Callable[[Sequence[str]], None]) -> None:
        """Choose at most `limit` messages of these slots, in their order, and `hold` them as they are chosen.

        What is held is not seen again. In a transaction that has the write lock.
        """
        choice = Choice(self._rules, self._running(), limit, hold)
        if next(self._numbers) % AGING_EVERY == 0:
            self._choose_overdue(choice, slots, now)
        for slot in slots:
            if choice.wanted:
                self._choose_in_slot(choice, slot, now)

    def _choose_overdue(self, choice: Choice, slots: Sequence[Slot], now: datetime) -> None:
        """The oldest first, whatever their priority."""
        parameters = {"before": after(now, -self._aging_seconds), "limit": choice.wanted}
        found = sorted(tuple(row) for slot in slots for row in self._fetch("overdue", slot, **parameters))
        for _, _, message_id, organization in found:
            if choice.wanted and choice.allowance(organization):
                choice.take([(organization, message_id)])

    def _choose_in_slot(self, choice: Choice, slot: Slot, now: datetime) -> None:
        organizations = self._waiting(slot, choice.full, now)
        while organizations and choice.wanted:
            organizations = self._choose_round(choice, slot, organizations, now)
        if choice.wanted and not self._rules.is_limited:  # more of them wait than were looked at
            rows = self._fetch("due", slot, now=as_text(now), limit=choice.wanted)
            choice.take([("", message_id) for (message_id,) in rows])

    def _choose_round(self, choice: Choice, slot: Slot, organizations: Sequence[str], now: datetime) -> list[str]:
        """One round; the organizations that have used what they got, and may have more."""
        weights = {name: self._rules.weights.get(name, self._rules.default_weight) for name in organizations}
        turns, others = [], []
        for name, place, share in shares(weights, choice.wanted):
            allowance = choice.allowance(name)
            quota = int(min(share, allowance))
            rows = self._fetch("due_of", slot, organization=name, now=as_text(now), limit=quota) if quota else []
            turns += [((number - place) / quota, name, row[0]) for number, row in enumerate(rows, start=1)]
            if len(rows) == quota < allowance:
                others.append(name)
        if chosen := [(name, message_id) for _, name, message_id in sorted(turns)]:
            choice.take(chosen)
            self._starts[slot] = f"{chosen[-1][0]} "
        return others

    def _waiting(self, slot: Slot, full: Sequence[str], now: datetime) -> list[str]:
        """Who has due messages in a slot, from where the last claim ended on, and then from the first name on."""
        start = self._starts.get(slot, "")
        parameters = {"full": json.dumps(full), "now": as_text(now), "room": MOST_ORGANIZATIONS}
        found = [name for (name,) in self._fetch("waiting", slot, start=start, **parameters)]
        if start and len(found) < MOST_ORGANIZATIONS:
            before = [name for (name,) in self._fetch("waiting", slot, start="", **parameters) if name < start]
            found += before[: MOST_ORGANIZATIONS - len(found)]
        return found

    def _running(self) -> Mapping[str, int]:
        if not self._rules.is_limited:
            return {}
        rows = self._session.fetch(self._statements["running"], {"namespace": self._namespace})
        return {organization: number for organization, number in rows}

    def _fetch(self, name: str, slot: Slot, **parameters: Any) -> list[Row]:
        queue, priority = slot
        place = {"namespace": self._namespace, "queue": queue, "priority": priority}
        return self._session.fetch(self._statements[name], place | parameters)


def shares(weights: Mapping[str, float], wanted: int) -> list[tuple[str, float, int]]:
    """Each organization in a random order, its place there from 0 to 1, and how many of `wanted` messages it gets."""
    placed = sorted((random.random(), name) for name in weights)
    step, start = sum(weights.values()) / wanted, random.random()
    upto, before, found = 0.0, 0, []
    for place, name in placed:
        upto += weights[name]
        at = math.floor(upto / step + start)
        found.append((name, place, at - before))
        before = at
    return found
