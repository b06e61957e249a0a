"""Measuring in a process of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster_app.bench.child import ChildFailed, run_child


def test_a_child_that_fails_is_told_with_its_last_word() -> None:
    """And how to run it alone."""
    with pytest.raises(ChildFailed, match="No module named") as caught:
        run_child("cluster_app.bench.no_such_side", {"messages": 1})
    assert "python -m cluster_app.bench.no_such_side '{\"messages\": 1}'" in caught.value.hint


def test_a_peer_that_is_not_installed_is_told_with_what_to_install() -> None:
    """A missing package is no riddle."""
    failed = ChildFailed("a.side", "Traceback\nModuleNotFoundError: No module named 'xoscar'\n", "{}")
    assert failed.hint == "xoscar comes with the peers: pip install '.[bench]' in its checkout"


def test_the_last_line_is_what_was_measured_and_no_ray_is_handed_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What libraries print before it does not matter; the caller's Ray does not reach it."""
    (tmp_path / "a_side.py").write_text(
        "import json, os, sys\n"
        "print('a library says hello')\n"
        "print(json.dumps({'asked': json.loads(sys.argv[1]), 'ray': os.environ.get('RAY_ADDRESS')}))\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("RAY_ADDRESS", "192.0.2.1:6379")
    assert run_child("a_side", {"messages": 3}) == {"asked": {"messages": 3}, "ray": None}
