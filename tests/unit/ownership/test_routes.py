"""What senders are told of where shards are: changes, and all of it only when that is needed."""

from __future__ import annotations

import pickle

from hypothesis import given, settings
from hypothesis import strategies as st

from cluster_app.grants import Epoch
from cluster_app.ledger import Ledger
from cluster_app.routes import Loss, Routes, read_routes, write_routes
from cluster_app.shard import ShardId, shards_of

SHARDS = shards_of("default", 8)
changes = st.lists(
    st.tuples(
        st.sampled_from(["grant", "release", "seize", "hear"]), st.integers(0, 7), st.sampled_from("ab")
    ),
    max_size=40,
)


@settings(max_examples=200, deadline=None)
@given(changes=changes)
def test_changes_add_up_to_what_is(changes: list[tuple[str, int, str]]) -> None:
    """However seldom a sender asks, what it was told gives the owners of now; only the first answer is all of it."""
    ledger = Ledger(3)
    ledger.add(SHARDS)
    known = Routes(-1, {})
    for what, number, runner in changes:
        shard = SHARDS[number]
        if what == "grant" and shard in ledger.free:
            ledger.grant(shard, runner, 0.0)
        elif what == "release" and shard in ledger.owners:
            ledger.release(shard, *ledger.owners[shard], 0.0)
        elif what == "seize":
            ledger.seize(runner, 0.0)
            ledger.free_seized(runner)
        elif what == "hear":
            news = read_routes(write_routes(ledger.routes(known.version)))
            assert (news.since is None) == (known.version == -1)
            known = known.after(news)
            assert known == Routes(ledger.version, ledger.owners)


def test_only_what_changed_is_told() -> None:
    """A hundred thousand shards, one of which has moved: an answer of some bytes, not of megabytes."""
    ledger = Ledger(1)
    ledger.add(shards_of("default", 100_000))
    for shard in list(ledger.free):
        ledger.grant(shard, "a", 0.0)
    known = Routes(-1, {}).after(ledger.routes(-1))
    assert len(write_routes(known)) > 1_000_000
    shard = ShardId("default", 7)
    ledger.release(shard, *ledger.owners[shard], 0.0)
    assert ledger.routes(known.version).vacant == (shard,)
    ledger.grant(shard, "b", 0.0)
    news = ledger.routes(known.version)
    assert news.owners == {shard: ("b", Epoch(1, 100_001))}
    assert len(write_routes(news)) < 200
    assert known.after(news).owners == ledger.owners


def test_another_term_is_told_in_full() -> None:
    """Its versions say nothing about what changed since one of the term before."""
    old, new = Ledger(1), Ledger(2)
    for ledger in (old, new):
        ledger.add(SHARDS)
    old.grant(SHARDS[0], "a", 0.0)
    known = Routes(-1, {}).after(old.routes(-1))
    assert new.routes(known.version) == Routes(new.version, {})
    assert known.after(new.routes(known.version)).owners == {}


def test_changes_since_another_version_change_nothing() -> None:
    """An answer to an older question, which came late: the next question is asked with what is known."""
    known = Routes(7, {SHARDS[0]: ("a", Epoch(1, 1))})
    assert known.after(Routes(9, {}, since=6, vacant=(SHARDS[0],))) == known


def test_what_is_written_holds_no_class_of_ours() -> None:
    """Named tuples pickle as calls of their class, four times as long as plain ones: there may be 100,000."""
    lost = {"b": Loss(Epoch(1, 0), 0.5)}
    data = write_routes(Routes(7, {SHARDS[0]: ("a", Epoch(1, 1))}, lost, 6, (SHARDS[1],)))
    assert b"cluster_app" not in data
    assert pickle.loads(data) == (7, 6, [(0, "default", "a", 1, 1)], [("default", 1)], [("b", (1, 0), 0.5)])
