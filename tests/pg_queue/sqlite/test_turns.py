"""How a claim is shared out among organizations."""

from __future__ import annotations

from collections import Counter

import pytest

from pg_queue.storage.sqlite.turns import shares


@pytest.mark.parametrize("wanted", [1, 7, 300])
def test_all_that_is_wanted_is_shared_out_in_proportion_to_the_weights(wanted: int) -> None:
    weights = {"a": 1.0, "b": 2.0, "c": 7.0}
    got: Counter[str] = Counter()
    for _ in range(3000):
        found = shares(weights, wanted)
        assert abs(sum(share for _, _, share in found) - wanted) <= 1
        got.update({name: share for name, _, share in found})
    for name, weight in weights.items():
        assert got[name] / got.total() == pytest.approx(weight / 10, abs=0.04)


def test_a_share_is_never_more_than_one_off() -> None:
    for _ in range(200):
        assert {share for _, _, share in shares(dict.fromkeys("abcdef", 1.0), 20)} <= {3, 4}
