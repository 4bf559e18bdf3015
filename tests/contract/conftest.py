"""The store under test, once per implementation."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from pg_queue.domain import Capability
from tests.contract.actors import Actor
from tests.contract.harness import HARNESSES, Harness
from tests.contract.table import store_marker


def _parameters() -> Iterator[object]:
    for name, make in sorted(HARNESSES.items()):
        marks = [store_marker(name), pytest.mark.services(*make.services)]
        yield pytest.param(name, id=name, marks=marks)


@pytest.fixture(params=_parameters())
def harness(request: pytest.FixtureRequest, transactional_db: None) -> Iterator[Harness]:
    """A store with nothing in it. Its writes are committed, so that other threads and processes see them.

    A test marked `capability("keys")` skips where the store lacks that.
    """
    found = HARNESSES[request.param]()
    with found.installed():
        for marker in request.node.iter_markers("capability"):
            for wanted in map(Capability, marker.args):
                if wanted not in found.store.capabilities:
                    pytest.skip(f"lacks {wanted}")
        found.clear()
        yield found


@pytest.fixture
def actor(harness: Harness) -> Iterator[Callable[..., Actor]]:
    """Starts processes at the store under test; none outlives the test."""
    actors: list[Actor] = []

    def start(**options: float) -> Actor:
        actors.append(Actor(harness, **options))
        return actors[-1]

    yield start
    for one in actors:
        one.kill()
