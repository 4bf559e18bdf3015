"""Who is told of messages that were routed away, by the `report_to` that they carry."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from pg_queue.domain import Message, NewMessage


@dataclass(frozen=True, slots=True, kw_only=True)
class Follower:
    """What to call, each within a transaction on the queue's database that the relay commits. May be called again."""

    on_taken: Callable[[Sequence[NewMessage], bool], None]
    """These messages were taken by their target; the second argument: whether their outcomes will come."""
    on_outcomes: Callable[[Sequence[Message]], None]
    """What became of messages in another store."""


_followers: dict[str, Follower] = {}


def follow(report_to: str, follower: Follower) -> None:
    """Be told of messages with this `report_to`. For `AppConfig.ready`; a second call replaces the first."""
    _followers[report_to] = follower


def followers() -> Mapping[str, Follower]:
    """Everyone who follows, by `report_to`."""
    return dict(_followers)


def following(messages: Sequence[NewMessage]) -> Iterator[tuple[Follower, list[NewMessage]]]:
    """The messages by who follows them; those that nobody follows are left out."""
    known = followers()
    followed = sorted((m for m in messages if m.report_to in known), key=lambda m: m.report_to or "")
    for report_to, group in groupby(followed, key=lambda m: m.report_to or ""):
        yield known[report_to], list(group)
