"""One class of the sender is one class at the receiver, and what comes back is the sender's own.

The senders are processes that run a script; this process is the receiver, which cannot import what they define.
"""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from cluster_app.envelope import Codec, Packed

SCRIPT = """
    import dataclasses, enum, sys
    from pathlib import Path
    from typing import NamedTuple
    import pydantic
    from cluster_app import Entity, message, own_modules
    from cluster_app.envelope import Codec, Packed
    from goods import Crate, Size

    own_modules.begin()

    class Colour(enum.Enum):
        RED = "red"

    class Point(NamedTuple):
        x: int

    class Order(pydantic.BaseModel):
        amount: int = 1

    class Refused(Exception):
        def __init__(self, why):
            super().__init__(why)

    def by_rate(value):
        return RATE * value

    @dataclasses.dataclass
    class Thing:
        colour: Colour
        point: Point
        twin: "Thing | None" = None

        def rated(self):
            return by_rate(self.point.x)

        def other(self):
            return Thing(self.colour, self.point)

    class Shelf(Entity):
        @message
        def get(self) -> Thing: ...

    RATE = 3

    def things():
        return [Thing(Colour.RED, Point(2)), Colour.RED, Point(2), Order(amount=4), Refused("no"), Crate(Size.BIG)]

    if __name__ == "__main__":
        what, path = sys.argv[1], Path(sys.argv[2])
        if what == "send":
            path.write_bytes(Codec().pack((things(), Shelf)).data)
        else:
            RATE = 5
            function = Thing.rated
            came, shelf = Codec().unpack(Packed(path.read_bytes()))
            own = things()
            assert [type(each) for each in came] == [type(each) for each in own]
            assert came[:4] + came[5:] == own[:4] + own[5:], came
            assert came[1] is Colour.RED and came[5].size is Size.BIG and shelf is Shelf
            assert Thing.rated is function and came[0].rated() == 10  # its own class was not written to
            print("own")
"""
GOODS = """
    import dataclasses, enum

    class Size(enum.IntEnum):
        BIG = 2

    @dataclasses.dataclass
    class Crate:
        size: Size

        def open(self):
            return unpacked(self)

    def unpacked(crate):
        return int(crate.size) + {more}
"""


class Sender:
    """Runs the script in a folder."""

    def __init__(self, folder: Path, more: int = 0) -> None:
        folder.mkdir(exist_ok=True)
        self._script = folder / "script.py"
        self._script.write_text(textwrap.dedent(SCRIPT))
        (folder / "goods.py").write_text(textwrap.dedent(GOODS.format(more=more)))
        self._letter = folder / "letter"

    def _run(self, what: str) -> str:
        done = subprocess.run(
            [sys.executable, "-B", str(self._script), what, str(self._letter)], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def send(self) -> Packed:
        """What a new process of it sends."""
        self._run("send")
        return Packed(self._letter.read_bytes())

    def receive(self, packed: Packed) -> None:
        """Have a new process of it check what came back."""
        self._letter.write_bytes(packed.data)
        assert self._run("receive") == "own\n"


@pytest.fixture
def sender(tmp_path: Path) -> Sender:
    """A script and a file beside it."""
    return Sender(tmp_path / "sender")


def classes(things: list[Any]) -> list[type[Any]]:
    """Of each its class."""
    return [type(each) for each in things]


def test_a_class_of_two_messages_and_of_two_runs_is_one(sender: Sender) -> None:
    """Dataclass, enum, NamedTuple, pydantic model, exception and entity type, of the script and of a file beside it."""
    codec = Codec()
    letter = sender.send()
    things, shelf = codec.unpack(letter)
    assert things[0].rated() == 6
    assert type(things[0].other()) is type(things[0])
    assert things[5].open() == 2
    for packed in (letter, sender.send()):
        again, same_shelf = codec.unpack(packed)
        assert classes(again) == classes(things)
        assert again[:4] + again[5:] == things[:4] + things[5:]
        assert again[1] is things[1]
        assert same_shelf is shelf


def test_a_class_that_is_there_is_never_written_to(sender: Sender) -> None:
    """What the receiver has set on it stays when the next message brings the class again."""
    codec = Codec()
    (thing, *_), _ = codec.unpack(sender.send())
    type(thing).seen = 7
    (again, *_), _ = codec.unpack(sender.send())
    assert again.seen == 7


def test_what_comes_back_is_of_the_senders_own_classes(sender: Sender) -> None:
    """Also in another process of the same script, and also for classes that the receiver made instances of."""
    codec = Codec()
    things, shelf = codec.unpack(sender.send())
    things[0] = things[0].other()
    sender.receive(codec.pack((things, shelf)))


def test_edited_code_is_another_class(tmp_path: Path) -> None:
    """A helper in the file beside the script has changed, and so what the class does; both live side by side."""
    codec = Codec()
    (*_, old), _ = codec.unpack(Sender(tmp_path / "a", more=0).send())
    (*_, new), _ = codec.unpack(Sender(tmp_path / "b", more=1).send())
    assert (old.open(), new.open()) == (2, 3)
    assert type(old) is not type(new)


def test_code_that_cannot_be_read_leaves_no_half_made_class() -> None:
    """The next message that brings it is told the same."""
    source = textwrap.dedent("""
        import sys, types
        from cluster_app.envelope import Codec
        absent = types.ModuleType("absent_at_the_receiver")
        sys.modules["absent_at_the_receiver"] = absent
        exec("class Gone: pass", vars(absent))
        absent.__file__ = None

        class Inner: pass
        class Outer(absent.Gone):
            inner = Inner

        absent.Gone.__module__ = "absent_at_the_receiver"
        sys.stdout.buffer.write(Codec().pack(Outer()).data)
    """)
    done = subprocess.run([sys.executable, "-c", source], capture_output=True)
    assert done.returncode == 0, done.stderr
    for _ in range(2):
        with pytest.raises(ModuleNotFoundError, match="absent_at_the_receiver"):
            Codec().unpack(Packed(done.stdout))


def test_classes_made_by_one_function_are_told_apart() -> None:
    """They have the same name and the same text."""

    def make(number: int) -> type[Any]:
        class Made:
            def number(self) -> int:
                return number

        return Made

    codec = Codec()
    one, two = codec.unpack(codec.pack((make(1)(), make(2)())))
    assert (one.number(), two.number()) == (1, 2)
