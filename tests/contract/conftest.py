"""The store under test, once per implementation."""

from __future__ import annotations

import pytest

from tests.contract.harness import HARNESSES, Harness


@pytest.fixture(params=sorted(HARNESSES))
def harness(request: pytest.FixtureRequest, transactional_db: None) -> Harness:
    """A store with nothing in it. Its writes are committed, so that other threads and processes see them."""
    found: Harness = HARNESSES[request.param]()
    found.clear()
    return found
