"""What is told of the machine beside the figures."""

from __future__ import annotations

import os
from importlib.metadata import version

import pytest

from cluster_app.bench.machine import machine


def test_the_machine_its_versions_and_what_was_set_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever sets the cluster's figures by the environment measures another cluster, and it says so."""
    monkeypatch.setenv("CLUSTER_APP_BATCH_MESSAGES", "64")
    monkeypatch.setenv("CLUSTER_APP_TRACEBACK", "1")
    told = machine()
    assert told["settings"]["CLUSTER_APP_BATCH_MESSAGES"] == "64"
    assert "CLUSTER_APP_TRACEBACK" not in told["settings"]  # decides nothing of the cluster
    assert (told["cores"], told["versions"]["ray"]) == (os.cpu_count(), version("ray"))
    assert told["memory_gb"] > 0 and told["processor"] and len(told["date"]) == 10
