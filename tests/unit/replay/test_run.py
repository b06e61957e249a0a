"""Whole runs over the user's own rows: figures, rejects, states."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from cluster_app.replay.refusal import Refusal
from cluster_app.replay.rejects import REMEMBERED, Rejects
from cluster_app.replay.row_messages import RowMessages
from cluster_app.replay.run import ReplayOptions, replay
from cluster_app.replay.source import open_source
from cluster_app.replay.summary import Summary
from cluster_app.replay.target import Target
from entities import Entity
from entities.catalog import Counter
from tests.unit.replay.fake_cluster import FakeCluster
from tests.unit.replay.fleet import Car, Mute


def run(
    path: Path,
    kind: type[Entity] = Counter,
    method: str = "increment",
    *,
    cluster: FakeCluster | None = None,
    rejects: Rejects | None = None,
    console: Console | None = None,
    **options: Any,
) -> Summary:
    """Replay a file whose key column is `id`."""
    source = open_source(str(path))
    try:
        return replay(
            cluster or FakeCluster(),
            RowMessages(source, Target(kind, method), "id", options.get("limit")),
            rejects or Rejects(),
            ReplayOptions(**options),
            console or Console(file=io.StringIO()),
        )
    finally:
        source.close()


def written(path: Path, content: str) -> Path:
    """Write a file and return its path."""
    path.write_text(content)
    return path


def test_each_usable_row_is_one_message(tmp_path: Path) -> None:
    """And the figures say so; there is nothing to verify against."""
    fake = FakeCluster()
    summary = run(written(tmp_path / "a.csv", "id,by\na,1\nb,2\na,3\n"), cluster=fake)
    assert {entity_id: counter.value for (_, entity_id), counter in fake.live.items()} == {"a": 4, "b": 2}
    told = summary.as_dict()
    assert told["messages_per_s"] == round(summary.messages_per_s, 1) > 0
    del told["messages_per_s"]
    assert told == {
        "rows": 3,
        "rejected": 0,
        "messages": 3,
        "replies": 3,
        "errors": {},
        "entities": {"Counter": 2},
        "activations": {"Counter": 2},
        "latency_ms": {"p50": 5.5, "p99": 9.91},  # all in the bucket from 1 to 10 ms
        "verified": None,
    }


def test_the_figures_are_this_runs_and_not_the_clusters(tmp_path: Path) -> None:
    """Activations and latency of an earlier run on the same cluster are not told again."""
    fake = FakeCluster(latency_s=3.0)
    path = written(tmp_path / "a.csv", "id,by\na,1\nb,2\n")
    run(path, cluster=fake)
    fake.latency_s = 0.002
    summary = run(path, cluster=fake)
    assert (summary.activations, summary.entities) == ({"Counter": 0}, {"Counter": 2})
    assert summary.as_dict()["latency_ms"] == {"p50": 5.5, "p99": 9.91}


def test_rejected_rows_are_counted_and_written_and_the_rest_goes_on(tmp_path: Path) -> None:
    """Each with its line, its reason and what was read of it."""
    path = written(tmp_path / "a.csv", "id,by\na,1\n,2\nb,two\nc\nd,4\n")
    out = tmp_path / "rejects.jsonl"
    with Rejects(out) as rejects:
        summary = run(path, rejects=rejects)
    assert (summary.rows, summary.rejected, summary.messages, summary.succeeded) == (5, 3, 2, True)
    assert [json.loads(line) for line in out.read_text().splitlines()] == [
        {"line": 3, "reason": "id is empty", "row": {"id": None, "by": "2"}},
        {"line": 4, "reason": "by: 'two' is not an int", "row": {"id": "b", "by": "two"}},
        {"line": 5, "reason": "1 cells where the header has 2", "row": ["c"]},
    ]


def test_the_rejects_file_takes_bytes_that_are_no_text(tmp_path: Path) -> None:
    """A row that is rejected for its bytes is written all the same."""
    path = tmp_path / "a.csv"
    path.write_bytes(b"id,by\ncaf\xe9,1\n")
    with Rejects(tmp_path / "out.jsonl") as rejects:
        run(path, rejects=rejects)
    assert "valid Unicode" in json.loads((tmp_path / "out.jsonl").read_text())["reason"]


def test_only_the_first_rejects_are_remembered() -> None:
    """A file of nothing but bad rows does not fill the memory."""
    rejects = Rejects()
    for line in range(1_000):
        rejects.add(line, "bad", None)
    assert (rejects.count, len(rejects.first)) == (1_000, REMEMBERED)


def test_errors_of_the_users_entity_are_results(tmp_path: Path) -> None:
    """They are counted by reason; the run succeeded as long as some message did."""
    summary = run(written(tmp_path / "a.csv", "id,km\na,1\na,-1\na,-2\n"), Car, "drive")
    assert (summary.replies, dict(summary.errors), summary.succeeded) == (3, {"HandlerError": 2}, True)


@pytest.mark.parametrize("rows", ["a,-1\n", "a,far\n"])
def test_a_run_in_which_nothing_worked_failed(tmp_path: Path, rows: str) -> None:
    """Be it that every row was rejected or that every message ended in an error."""
    assert run(written(tmp_path / "a.csv", f"id,km\n{rows}"), Car, "drive").succeeded is False


def test_a_file_without_rows_is_no_failure(tmp_path: Path) -> None:
    """There was nothing to do, and it was done; there is no latency to tell."""
    summary = run(written(tmp_path / "a.csv", "id,by\n"))
    assert summary.succeeded is True
    assert summary.as_dict()["latency_ms"] == {"p50": None, "p99": None}


def test_a_limit_ends_the_run_early(tmp_path: Path) -> None:
    """So many rows, counting those that are rejected."""
    summary = run(written(tmp_path / "a.csv", "id,by\na,1\n,2\nb,3\nc,4\n"), limit=3)
    assert (summary.rows, summary.rejected, summary.messages) == (3, 1, 2)


def test_the_state_of_every_entity_that_was_fed_is_written(tmp_path: Path) -> None:
    """One JSON line each, sorted by id; others of the same type are not asked."""
    fake = FakeCluster()
    fake.entity(Car, "unused").drive.remote(1.0)
    out = tmp_path / "states.jsonl"
    run(
        written(tmp_path / "a.jsonl", '{"id": 7, "km": 2}\n{"id": "b", "km": 1.5, "day": "2013-01-31"}\n'),
        Car,
        "drive",
        cluster=fake,
        state_out=out,
    )
    assert [json.loads(line) for line in out.read_text().splitlines()] == [
        {"type": "Car", "id": "7", "state": {"trips": [[2.0, "nobody", None]], "km": 2.0}},
        {"type": "Car", "id": "b", "state": {"trips": [[1.5, "nobody", "2013-01-31"]], "km": 1.5}},
    ]


def test_reading_states_sends_no_message(tmp_path: Path) -> None:
    """Messages, replies and latency are those of the rows."""
    fake = FakeCluster()
    summary = run(written(tmp_path / "a.csv", "id,by\na,1\n"), cluster=fake, state_out=tmp_path / "out.jsonl")
    assert (summary.messages, summary.replies, len(fake.log)) == (1, 1, 1)
    assert json.loads((tmp_path / "out.jsonl").read_text())["state"] == {"value": 1}


def test_a_state_is_the_public_attributes_whatever_the_class_declares(tmp_path: Path) -> None:
    """The user's class needs no message that tells its state."""
    out = tmp_path / "out.jsonl"
    run(written(tmp_path / "a.csv", "id\na\n"), Mute, "nod", state_out=out)
    assert json.loads(out.read_text()) == {"type": "Silent", "id": "a", "state": {"nods": 1}}


def test_what_json_has_no_form_for_stands_as_text(tmp_path: Path) -> None:
    """The rest of the state stands as it is."""
    fake = FakeCluster()
    path = written(tmp_path / "a.csv", "id\na\n")
    run(path, Mute, "nod", cluster=fake)
    vars(fake.live[Mute, "a"]).update(odd=float("nan"), pairs={(1, 2): 3}, kind=Mute, when=date(2013, 1, 31))
    out = tmp_path / "out.jsonl"
    run(path, Mute, "nod", cluster=fake, state_out=out)
    assert json.loads(out.read_text())["state"] == {
        "nods": 2,
        "odd": "nan",
        "pairs": "{(1, 2): 3}",
        "kind": str(Mute),
        "when": "2013-01-31",
    }


def test_entities_that_are_gone_are_told_and_have_no_state(tmp_path: Path) -> None:
    """What was let go during the replay took its attributes with it."""

    class Forgetful(FakeCluster):
        def states(self, entity_type: type[Any], /) -> Iterator[tuple[str, dict[str, Any]]]:
            return (found for found in super().states(entity_type) if found[0] != "b")

    shown, out = io.StringIO(), tmp_path / "out.jsonl"
    path = written(tmp_path / "a.csv", "id,by\na,1\nb,2\n")
    run(path, cluster=Forgetful(), state_out=out, console=Console(file=shown, width=120))
    assert [json.loads(line)["id"] for line in out.read_text().splitlines()] == ["a"]
    assert "1 of the 2 entities fed are gone" in shown.getvalue()


def test_a_state_file_that_cannot_be_written_is_refused_at_the_start(tmp_path: Path) -> None:
    """Not after an hour of feeding."""
    fake = FakeCluster()
    with pytest.raises(Refusal, match="cannot write"):
        run(
            written(tmp_path / "a.csv", "id\na\n"),
            Mute,
            "nod",
            cluster=fake,
            state_out=tmp_path / "no" / "out",
        )
    assert fake.log == []


def test_a_class_that_the_cluster_does_not_take_is_refused_before_anything_is_sent(tmp_path: Path) -> None:
    """Its reason is told once, and not by every message."""
    fake = FakeCluster(refusal=ValueError("Counter runs other code"))
    with pytest.raises(Refusal, match="Counter cannot be fed: Counter runs other code"):
        run(written(tmp_path / "a.csv", "id,by\na,1\n"), cluster=fake)
    assert fake.log == []


def test_types_are_told_by_their_declared_name(tmp_path: Path) -> None:
    """The name of `@entity(name=...)` is the one in labels, so it is the one in the figures."""
    assert run(written(tmp_path / "a.csv", "id\na\n"), Mute, "nod").activations == {"Silent": 1}


def test_progress_shows_rows_rate_entities_and_errors(tmp_path: Path) -> None:
    """At the end at least once, on a terminal or not."""
    for terminal in (False, True):
        shown = io.StringIO()
        path = written(tmp_path / "a.csv", "id,km\n" + "a,1\nb,-1\n" * 300)
        run(path, Car, "drive", console=Console(file=shown, force_terminal=terminal, width=120))
        last = shown.getvalue().strip().splitlines()[-1]
        assert re.search(r"600 rows, [1-9][\d,]* messages/s, 2 entities, 300 errors$", last)
