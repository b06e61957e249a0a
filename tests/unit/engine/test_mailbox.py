"""The mailbox against a list."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entities.mailbox import Mailbox


@given(capacity=st.integers(1, 5), steps=st.lists(st.tuples(st.sampled_from("otr"), st.integers(0, 5))))
def test_it_is_a_bounded_queue(capacity: int, steps: list[tuple[str, int]]) -> None:
    """First in first out, never above its capacity, and a refusal changes nothing."""
    mailbox: Mailbox[int] = Mailbox(capacity)
    model: list[int] = []
    for step, number in steps:
        if step == "o":
            room = len(model) < capacity
            assert mailbox.offer(number) is room
            if room:
                model.append(number)
        elif step == "r":
            assert mailbox.remove(number) is (number in model)
            if number in model:
                model.remove(number)
        elif model:
            assert mailbox.take() == model.pop(0)
        else:
            with pytest.raises(IndexError):
                mailbox.take()
        assert (list(mailbox), len(mailbox)) == (model, len(model))
