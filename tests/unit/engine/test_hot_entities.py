"""Which entities get the most messages: counted in full while it is quiet, by samples when it is not."""

from __future__ import annotations

from cluster_app.envelope import MessageFrame
from cluster_app.hot_entities import SHARE, HotEntities
from cluster_app.status import HotEntity, hottest


def frame(
    ids: list[str], kinds: list[tuple[str, str]] | None = None, kind: list[int] | None = None
) -> MessageFrame:
    """A frame of messages to these ids."""
    kinds = kinds or [("Car", "drive")]
    return MessageFrame(0, 0, 1, kinds, kind or [0] * len(ids), ids, [()] * len(ids), 30.0, {}, {})


def test_small_frames_are_counted_in_full() -> None:
    """By type and id, the hottest first, exact to the message."""
    hot = HotEntities(0.0)
    kinds = [("Car", "drive"), ("Cab", "drive"), ("Car", "park")]
    for _ in range(10):
        hot.saw(frame(["a", "b", "a"], kinds, [0, 1, 2]), 1.0)
    hot.saw(frame(["c"]), 2.0)
    assert hot.hottest(5.0) == [
        HotEntity("Car", "a", 20 / 5, 0.0),
        HotEntity("Cab", "b", 10 / 5, 0.0),
        HotEntity("Car", "c", 1 / 5, 0.0),
    ]


def test_large_frames_are_sampled_and_stand_for_the_others() -> None:
    """A thousand frames, in a rhythm of sixteen: the hot one is seen for what it is, within a third."""
    hot = HotEntities(0.0)
    for number in range(1_600):
        ids = [f"cold-{number % SHARE}-{n}" for n in range(60)] + ["hot"] * 40
        hot.saw(frame(ids), number / 200)
    first, *others = hot.hottest(8.0)
    assert (first.type, first.id) == ("Car", "hot")
    assert 0.66 < first.messages_per_s / (1_600 * 40 / 8.0) < 1.33
    assert all(other.messages_per_s < first.messages_per_s / 10 for other in others)


def test_messages_within_a_runner_stand_for_their_share() -> None:
    """The runner tells one of sixteen."""
    hot = HotEntities(0.0)
    for _ in range(100):
        hot.saw_one("Car", "a", 1.0)
    assert hot.hottest(10.0)[0] == HotEntity("Car", "a", 100 * SHARE / 10.0, 0.0)


def test_what_has_cooled_down_is_forgotten() -> None:
    """A rate is of the last ten to twenty seconds."""
    hot = HotEntities(0.0)
    hot.saw(frame(["then"] * 10), 1.0)
    hot.saw(frame(["now"]), 11.0)
    assert [(found.id, found.messages_per_s) for found in hot.hottest(12.0)] == [
        ("then", 10 / 12),
        ("now", 1 / 12),
    ]
    hot.saw(frame(["now"]), 22.0)
    assert [found.id for found in hot.hottest(22.0)] == ["now"]
    assert hot.hottest(40.0)[0].messages_per_s == 1 / 18
    assert hot.hottest(60.0) == []


def test_what_came_before_a_long_silence_is_forgotten_at_once() -> None:
    """Nobody need have asked meanwhile; and a message after it counts as one in ten seconds at least."""
    hot = HotEntities(0.0)
    hot.saw(frame(["then"] * 10), 1.0)
    assert hot.hottest(3600.0) == []
    hot.saw(frame(["now"]), 3600.0)
    assert [(found.id, found.messages_per_s) for found in hot.hottest(3600.0)] == [("now", 1 / 10)]


def test_ten_of_each_runner_and_twenty_in_all() -> None:
    """What a status shows is short, and sorted over the runners."""
    found = []
    for runner in range(3):
        hot = HotEntities(0.0)
        for number in range(30):
            hot.saw(
                frame([f"{runner}-{number}"] * (number + 1) if number < 16 else [f"{runner}-{number}"]), 1.0
            )
        found.append(hot.hottest(10.0))
        assert len(found[-1]) == 10
    most = hottest(entry for entries in found for entry in entries)
    assert len(most) == 20
    assert [entry.messages_per_s for entry in most[:4]] == [1.6, 1.6, 1.6, 1.5]
