"""The store of results under test, once per place where results can be kept."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.contract.results.harness import Harness
from tests.places import PLACES, Place, connected, parameters


@pytest.fixture(scope="package", params=parameters())
def place(request: pytest.FixtureRequest, tmp_path_factory: Any, django_db_blocker: Any) -> Iterator[Place]:
    """Where the results of these tests are kept; made once for all of them."""
    with django_db_blocker.unblock(), PLACES[request.param](tmp_path_factory.mktemp("results")) as made:
        yield made


@pytest.fixture
def harness(place: Place, django_db_blocker: Any) -> Iterator[Harness]:
    """A store with nothing in it. Its writes are committed, so that other threads and processes see them."""
    with django_db_blocker.unblock(), connected(place):
        yield Harness(place)
