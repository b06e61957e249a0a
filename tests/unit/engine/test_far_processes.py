"""What an agent remembers of its runners' processes on other nodes: as long as the file is there."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster_app.far_processes import FarProcesses


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where it is kept."""
    return tmp_path / "agent-here.elsewhere"


def test_an_agent_after_this_one_knows_where_they_run_and_whose_they_are(path: Path) -> None:
    """Each is in the file as soon as it has been admitted, whatever becomes of this agent."""
    first = FarProcesses(path)
    first.add("runner-1/1", "there")
    first.add("runner-1/2", "elsewhere")
    first.add("runner-10/1", "there")
    following = FarProcesses(path)
    assert following.of("runner-1") == ["runner-1/1", "runner-1/2"]
    assert following.of("runner-10") == ["runner-10/1"]
    assert [following.node_of(f"runner-1/{number}") for number in (1, 2, 3)] == ["there", "elsewhere", None]


def test_one_that_has_ended_is_forgotten_for_good(path: Path) -> None:
    """The others stay; to end twice is to end."""
    first = FarProcesses(path)
    first.add("runner-1/1", "there")
    first.add("runner-1/2", "there")
    first.remove("runner-1/1")
    first.remove("runner-1/1")
    for processes in (first, FarProcesses(path)):
        assert processes.of("runner-1") == ["runner-1/2"]
        assert processes.node_of("runner-1/1") is None


def test_an_agent_that_is_killed_as_it_writes_leaves_what_was_there_before(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The new file takes the old one's place when it is whole."""
    first = FarProcesses(path)
    first.add("runner-1/1", "there")

    def killed(self: Path, text: str) -> int:
        with self.open("w") as file:
            file.write(text[: len(text) // 2])
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_text", killed)
        with pytest.raises(KeyboardInterrupt):
            first.add("runner-1/2", "there")
    assert FarProcesses(path).of("runner-1") == ["runner-1/1"]


def test_nothing_is_left_when_the_service_ends(path: Path) -> None:
    """Neither the file nor what it held; that there is none is fine too."""
    first = FarProcesses(path)
    first.clear()
    first.add("runner-1/1", "there")
    first.clear()
    assert not path.exists()
    assert first.of("runner-1") == FarProcesses(path).of("runner-1") == []
