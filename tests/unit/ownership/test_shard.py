"""Names of shards, and the pinned cut of the id space."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster_app.shard import ShardId, shard_number, shards_of


@pytest.mark.parametrize(
    ("entity_type", "entity_id", "shards", "number"),
    [
        ("Counter", "user-42", 300, 250),
        ("Aircraft", "N14228", 300, 56),
        ("Airport", "JFK", 300, 289),
        ("Flughafen", "Zürich ✈", 300, 224),
        ("ab", "c", 1_000_003, 967_358),
        ("a", "bc", 1_000_003, 565_767),
    ],
)
def test_the_shard_of_an_address_is_pinned(
    entity_type: str, entity_id: str, shards: int, number: int
) -> None:
    """Another hash would send a running cluster's messages to the wrong runner: these values never change."""
    assert shard_number(entity_type, entity_id, shards) == number


def test_ids_spread_evenly_over_the_shards() -> None:
    """Chi-square of 299 degrees of freedom stays below 375 for 999 of 1000 good hashes; input is fixed."""
    counts = Counter(shard_number("Counter", f"user-{n}", 300) for n in range(30_000))
    assert sum((counts[number] - 100) ** 2 / 100 for number in range(300)) < 375


@given(group=st.text(min_size=1).filter(lambda text: ":" not in text), number=st.integers(0, 10**6))
def test_a_printed_shard_parses_back(group: str, number: int) -> None:
    """Printing and parsing are inverse."""
    shard = ShardId(group, number)
    assert ShardId.parse(str(shard)) == shard


@pytest.mark.parametrize(
    "text", ["", "default", ":3", "default:", "default:-1", "default:03", "a:b:3", "a:²"]
)
def test_what_no_shard_prints_is_refused(text: str) -> None:
    """A text that is not exactly a printed shard raises ValueError."""
    with pytest.raises(ValueError, match="shard"):
        ShardId.parse(text)


def test_a_group_is_cut_into_numbered_shards() -> None:
    """shards_of lists every shard of a group in order."""
    assert shards_of("gpu", 3) == (ShardId("gpu", 0), ShardId("gpu", 1), ShardId("gpu", 2))


@pytest.mark.parametrize(("group", "shards"), [("", 3), ("a:b", 3), ("default", 0)])
def test_a_bad_group_is_refused(group: str, shards: int) -> None:
    """An empty name, a name with a colon and a group without shards raise ValueError."""
    with pytest.raises(ValueError, match="group"):
        shards_of(group, shards)
