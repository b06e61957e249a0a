"""The loan of a lease: it counts from the borrower's own clock, and never outlives what it was taken from."""

from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from cluster_app.annex_calls import Lent
from cluster_app.lent_lease import LentLease, LentWay


class Borrower:
    """A lease on a clock that the test moves; `opened` is how often it opened."""

    def __init__(self) -> None:
        self.now = 100.0
        self.opened = 0
        self.loop = asyncio.new_event_loop()
        self.lease = LentLease(self.loop, lambda: self.now, self._count)

    def _count(self) -> None:
        self.opened += 1


def test_it_is_closed_until_something_is_lent() -> None:
    """And runs from the answer that the loan refers to, not from when the loan came."""
    borrower = Borrower()
    number = borrower.lease.mark()
    assert borrower.opened == 0
    borrower.now += 1.0  # on its way
    borrower.lease.lend(Lent(number, 2.5))
    assert (borrower.opened, borrower.lease.until) == (1, 102.5)
    borrower.now = 102.4
    assert LentWay(borrower.lease, borrower.loop).may_leave()
    borrower.now = 102.5
    assert not LentWay(borrower.lease, borrower.loop).may_leave()
    borrower.loop.close()


def test_who_waits_goes_on_when_it_opens() -> None:
    """A loan that has run out opens nothing; the next one does."""
    borrower = Borrower()
    number = borrower.lease.mark()
    waiting = borrower.lease.opened()
    borrower.now += 3.0
    borrower.lease.lend(Lent(number, 2.5))
    assert not waiting.done()
    borrower.lease.lend(Lent(borrower.lease.mark(), 2.5))
    assert waiting.done() and borrower.opened == 1
    borrower.loop.close()


def test_a_loan_for_an_answer_it_never_gave_is_none() -> None:
    """Or for one so long ago that it is forgotten."""
    borrower = Borrower()
    first = borrower.lease.mark()
    for _ in range(2000):
        borrower.lease.mark()
    for number in (first, 5000):
        borrower.lease.lend(Lent(number, 9.0))
    assert not borrower.lease.runs
    borrower.loop.close()


@given(st.lists(st.tuples(st.floats(0, 2), st.floats(0, 2), st.floats(0, 2)), max_size=20))
def test_it_never_outlives_the_lease_it_was_lent_from(rounds: list[tuple[float, float, float]]) -> None:
    """However long answers and loans travel: the owner's lease ends at its own reading plus what was left."""
    borrower = Borrower()
    owners_end = 100.0
    for there_s, renewed_s, back_s in rounds:
        number = borrower.lease.mark()
        borrower.now += there_s  # the answer travels, and only then does the owner look at its lease
        owners_end = max(owners_end, borrower.now + renewed_s)
        left_s = max(0.0, owners_end - borrower.now)
        borrower.now += back_s
        borrower.lease.lend(Lent(number, left_s))
        assert borrower.lease.until <= owners_end + 1e-9
    borrower.loop.close()
