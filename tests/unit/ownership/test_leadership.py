"""Terms, the leadership lease, and the store under both."""

from __future__ import annotations

import pytest

from cluster_app.kv import KeyValueUnavailable, MemoryKeyValue
from cluster_app.leadership import Leadership, NotLeading


def leadership(kv: MemoryKeyValue, namespace: str = "test") -> Leadership:
    """A coordinator that has claimed nothing yet, with a leadership lease of one second."""
    return Leadership(kv, namespace, 1.0, "incarnation")


class SlowStore(MemoryKeyValue):
    """Between this caller's list and its put, others claim terms and tidy the used ones away."""

    def __init__(self, kv: MemoryKeyValue) -> None:
        super().__init__()
        self._values = kv._values
        self.meanwhile: list[Leadership] = []

    def put(self, key: str, value: bytes, overwrite: bool = True) -> bool:
        for other in self.meanwhile:
            other.claim(0.0)
        return super().put(key, value, overwrite)


def test_terms_grow_by_one() -> None:
    """Each claim takes the term after the highest."""
    kv = MemoryKeyValue()
    assert [leadership(kv).claim(0.0) for _ in range(3)] == [1, 2, 3]


def test_namespaces_have_terms_of_their_own() -> None:
    """Two clusters on one store do not see each other, even where one's name starts with the other's."""
    kv = MemoryKeyValue()
    assert leadership(kv, "a").claim(0.0) == 1
    assert leadership(kv, "a/b").claim(0.0) == 1
    assert leadership(kv, "a").claim(0.0) == 2


def test_of_two_claims_for_one_term_the_second_gets_none() -> None:
    """The loser of the put may try again and gets the term above."""
    shared = MemoryKeyValue()
    store = SlowStore(shared)
    late = leadership(store)
    store.meanwhile = [leadership(shared)]
    assert late.claim(0.0) is None
    assert not late.leads(0.0)
    store.meanwhile = []
    assert late.claim(0.0) == 2


def test_a_claim_of_a_term_that_was_used_and_tidied_away_does_not_lead() -> None:
    """A claimant that slept between its list and its put finds the higher term before it leads."""
    shared = MemoryKeyValue()
    sleeper_store = SlowStore(shared)
    sleeper = leadership(sleeper_store)
    sleeper_store.meanwhile = [leadership(shared), leadership(shared)]
    assert sleeper.claim(0.0) is None
    assert sleeper.abdicated
    assert not sleeper.leads(0.0)


def test_the_lease_counts_from_when_the_question_was_sent() -> None:
    """Claimed at 10, it leads until just before 11; a confirmation sent at 10.5 lasts until 11.5."""
    leader = leadership(MemoryKeyValue())
    assert not leader.leads(10.0)
    leader.claim(10.0)
    assert leader.leads(10.99)
    assert not leader.leads(11.0)
    assert leader.confirm(10.5)
    assert leader.leads(11.49)
    assert not leader.leads(11.5)


def test_a_confirmation_that_was_sent_earlier_does_not_shorten_the_lease() -> None:
    """Answers of the store may overtake each other."""
    leader = leadership(MemoryKeyValue())
    leader.claim(0.0)
    leader.confirm(0.8)
    leader.confirm(0.2)
    assert leader.leads(1.7)


def test_a_leader_that_lost_its_lease_leads_again_when_nobody_is_above_it() -> None:
    """A lapse is not an abdication."""
    leader = leadership(MemoryKeyValue())
    leader.claim(0.0)
    assert not leader.leads(5.0)
    assert leader.confirm(5.0)
    assert leader.leads(5.0)


def test_a_leader_that_sees_a_higher_term_abdicates_for_good() -> None:
    """Its lease ends at once, and no later confirmation brings it back."""
    kv = MemoryKeyValue()
    old = leadership(kv)
    old.claim(0.0)
    leadership(kv).claim(0.1)
    assert old.leads(0.2)  # it has not asked yet
    assert not old.confirm(0.2)
    assert old.abdicated
    assert not old.leads(0.2)
    assert not old.confirm(0.3)
    with pytest.raises(NotLeading, match="term 1 does not lead; term 2 has been claimed"):
        old.require(0.3)


def test_without_the_store_a_leader_goes_on_until_its_lease_ends() -> None:
    """No answer is no higher term, and no confirmation either."""
    kv = MemoryKeyValue()
    leader = leadership(kv)
    leader.claim(0.0)
    kv.available = False
    assert not leader.confirm(0.5)
    assert leader.leads(0.99)
    assert not leader.leads(1.0)
    kv.available = True
    assert leader.confirm(2.0)
    assert leader.leads(2.0)


def test_a_claim_without_the_store_raises_and_can_be_repeated() -> None:
    """KeyValueUnavailable leaves nothing claimed."""
    kv = MemoryKeyValue()
    leader = leadership(kv)
    kv.available = False
    with pytest.raises(KeyValueUnavailable):
        leader.claim(0.0)
    kv.available = True
    assert leader.claim(1.0) == 1


def test_a_higher_term_heard_from_a_runner_ends_leadership() -> None:
    """An equal or lower one does not."""
    leader = leadership(MemoryKeyValue())
    leader.claim(0.0)
    leader.abdicate(1)
    assert leader.leads(0.0)
    leader.abdicate(2)
    assert not leader.leads(0.0)


def test_used_terms_are_tidied_away() -> None:
    """The store keeps the highest term only."""
    kv = MemoryKeyValue()
    for _ in range(5):
        leadership(kv).claim(0.0)
    assert kv.keys("") == ["test/term/000000000005"]


def test_one_incarnation_claims_one_term() -> None:
    """A second claim is a mistake in the program."""
    leader = leadership(MemoryKeyValue())
    leader.claim(0.0)
    with pytest.raises(RuntimeError, match="term 1"):
        leader.claim(0.0)


@pytest.mark.parametrize("lease_s", [0.0, -1.0, float("nan"), float("inf")])
def test_a_lease_that_never_or_always_lasts_is_refused(lease_s: float) -> None:
    """ValueError for a leadership lease that is not a positive number of seconds."""
    with pytest.raises(ValueError, match="leadership lease"):
        Leadership(MemoryKeyValue(), "test", lease_s, "incarnation")


def test_the_memory_store_puts_gets_lists_and_deletes() -> None:
    """A put without overwrite leaves what is there; deleting what is not there is nothing."""
    kv = MemoryKeyValue()
    assert kv.get("a/1") is None
    assert kv.put("a/1", b"one")
    assert not kv.put("a/1", b"two", overwrite=False)
    assert kv.get("a/1") == b"one"
    assert kv.put("a/1", b"two")
    assert kv.put("b/1", b"three", overwrite=False)
    assert kv.keys("a/") == ["a/1"]
    kv.delete("a/1")
    kv.delete("a/1")
    assert kv.keys("") == ["b/1"]
