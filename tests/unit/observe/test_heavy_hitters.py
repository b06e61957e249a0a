"""The bounds that a sketch of frequent keys promises, for any stream in any batches."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from observe.heavy_hitters import HeavyHitters

batches = st.lists(st.lists(st.integers(0, 30), max_size=40), max_size=20)


@given(batches, st.integers(1, 8))
@example([[0, 1, 2], [0, 3, 4], [0, 5, 6], [0, 7, 8]], 1)
def test_no_count_is_too_high_nor_too_low_by_more_than_the_error(
    stream: list[list[int]], capacity: int
) -> None:
    """For kept keys and for those that are not; and the error is within total / (capacity + 1)."""
    sketch: HeavyHitters[int] = HeavyHitters(capacity)
    truth: Counter[int] = Counter()
    for batch in stream:
        if len(batch) % 3:
            sketch.add(iter(batch), len(batch))
        else:
            for key in batch:
                sketch.add_one(key)
        truth.update(batch)
    kept = dict(sketch.most(len(sketch)))
    for key in range(31):
        assert kept.get(key, 0) <= truth[key] <= kept.get(key, 0) + sketch.error
    assert sketch.total == truth.total()
    assert sketch.error * (capacity + 1) <= sketch.total


@given(batches, st.integers(1, 8))
def test_what_is_frequent_is_always_kept(stream: list[list[int]], capacity: int) -> None:
    """More often than total / (capacity + 1): among the kept, whatever came between."""
    sketch: HeavyHitters[int] = HeavyHitters(capacity)
    truth: Counter[int] = Counter()
    for batch in stream:
        sketch.add(batch, len(batch))
        truth.update(batch)
    frequent = {key for key, count in truth.items() if count * (capacity + 1) > truth.total()}
    assert frequent <= {key for key, _ in sketch.most(len(sketch))}


@given(batches, st.integers(1, 8))
def test_memory_is_bounded(stream: list[list[int]], capacity: int) -> None:
    """Between two batches never more than twice the capacity."""
    sketch: HeavyHitters[int] = HeavyHitters(capacity)
    for batch in stream:
        sketch.add(batch, len(batch))
        assert len(sketch) <= 2 * capacity


def test_one_in_a_million_keys_is_found() -> None:
    """A key of one percent among keys that never come back; all others are forgotten."""
    sketch: HeavyHitters[str] = HeavyHitters(200)
    for batch in range(200):
        keys = [f"once-{batch}-{n}" for n in range(990)] + ["again"] * 10
        sketch.add(keys, len(keys))
    (name, count), *_ = sketch.most(3)
    assert name == "again"
    assert 2_000 - sketch.error <= count <= 2_000
    assert sketch.error <= 200_000 / 201
    assert len(sketch) <= 400


def test_it_keeps_at_least_one_key() -> None:
    """Less has no meaning."""
    with pytest.raises(ValueError, match="at least 1"):
        HeavyHitters(0)
