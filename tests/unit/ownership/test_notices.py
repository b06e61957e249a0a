"""When what still runs on a node that is about to be taken away is not waited for any longer."""

from __future__ import annotations

import pytest

from cluster_app.notices import Notices


def test_each_node_is_news_once() -> None:
    """Also when its deadline changes; one that has gone and comes again is news again."""
    notices = Notices()
    assert notices.hear({"a": 30.0, "b": None}) == {"a": 30.0, "b": None}
    assert notices.hear({"a": 29.0, "b": 10.0}) == {}
    assert set(notices.nodes) == {"a", "b"}
    assert notices.hear({"b": 9.0}) == {}
    assert set(notices.nodes) == {"b"}
    assert notices.hear({"a": 5.0}) == {"a": 5.0}


@pytest.mark.parametrize(
    ("notice_s", "due_s"),
    [(120.0, 6.0), (50.0, 5.0), (30.0, 4.0), (8.0, 4.0), (1.0, 1.0), (-2.0, -2.0)],
)
def test_a_tenth_of_the_notice_is_kept_for_the_end(notice_s: float, due_s: float) -> None:
    """Between four seconds and six; a notice shorter than that is due at once, and so is one that came late."""
    notices = Notices()
    notices.hear({"a": notice_s})
    assert (notices.due() == ["a"]) is (notice_s <= due_s)
    notices.hear({"a": due_s + 0.1})
    assert (notices.due() == []) is (due_s + 0.1 > 4.0)
    notices.hear({"a": due_s})
    assert notices.due() == ["a"]


def test_without_a_deadline_everything_is_waited_for() -> None:
    """Until somebody says when: a later word counts."""
    notices = Notices()
    notices.hear({"a": None})
    assert notices.due() == []
    notices.hear({"a": 2.0})
    assert notices.due() == ["a"]
