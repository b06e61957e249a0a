"""A Prometheus server of the tests' own, which scrapes a live Ray as its service discovery tells."""

from __future__ import annotations

import json
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import yaml
from ray._private import worker

from tests.programs import needs

__all__ = ["Prometheus", "Sample", "service_discovery"]

_DISCOVERED_S = 30.0


class Sample(NamedTuple):
    """One series of an answer. Labels include ``__name__`` where the query keeps it."""

    labels: Mapping[str, str]
    value: float


def service_discovery() -> Path:
    """The file by which this session's Ray tells Prometheus where its nodes are."""
    node: Any = worker._global_node
    return Path(node.get_session_dir_path(), "prom_metrics_service_discovery.json")


class Prometheus:
    """A server on a free loopback port, which scrapes and evaluates once a second. Leaving the context ends it.

    :param folder: where its data and its configuration are.
    :param discovery: Ray's service discovery file; it need not be there yet.
    :param rules: files of recording and alert rules; their groups are evaluated each second, whatever they say.
    """

    def __init__(self, folder: Path, discovery: Path, rules: Sequence[Path] = ()) -> None:
        program = needs("prometheus", "prometheus")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{probe.getsockname()[1]}"
        configuration = {
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
            "rule_files": [_each_second(path, folder) for path in rules],
            "scrape_configs": [
                {
                    "job_name": "ray",
                    "file_sd_configs": [{"files": [str(discovery)], "refresh_interval": "1s"}],
                }
            ],
        }
        (folder / "prometheus.yml").write_text(json.dumps(configuration))  # which is YAML too
        self._log = folder / "log"
        self._url = f"http://{address}/api/v1"
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                [
                    program,
                    f"--config.file={folder / 'prometheus.yml'}",
                    f"--storage.tsdb.path={folder / 'data'}",
                    f"--web.listen-address={address}",
                    "--log.level=warn",
                ],
                stdout=log,
                stderr=log,
            )

    def __enter__(self) -> Self:
        try:
            self.until(lambda: bool(self._reached()), within_s=_DISCOVERED_S)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the server."""
        self._process.terminate()
        self._process.wait(10)

    def query(self, text: str) -> list[Sample]:
        """What a PromQL expression gives now; a scalar is one sample. Raises ValueError for a wrong one."""
        result = self._get("query", query=text)
        if result["resultType"] == "scalar":
            return [Sample({}, float(result["result"][1]))]
        return [Sample(found["metric"], float(found["value"][1])) for found in result["result"]]

    def value(self, text: str) -> float | None:
        """The one value that an expression gives now; None if it gives nothing."""
        samples = self.query(text)
        assert len(samples) <= 1, f"{text} gives {len(samples)} series"
        return samples[0].value if samples else None

    def scraped(self, selector: str) -> list[list[float]]:
        """The values that were scraped of each series of a range selector such as ``x[1m]``, oldest first."""
        return [
            [float(value) for _, value in found["values"]]
            for found in self._get("query", query=selector)["result"]
        ]

    def rules(self) -> list[dict[str, Any]]:
        """The rules as they were evaluated last: ``name``, ``health``, ``lastError`` and more of each."""
        groups: list[dict[str, Any]] = self._get("rules")["groups"]
        return [rule for group in groups for rule in group["rules"]]

    def until(self, condition: Callable[[], bool], *, within_s: float) -> None:
        """Ask again, as often as it scrapes, until the condition holds; fails when it does not within that time."""
        deadline = time.monotonic() + within_s
        while not condition():
            assert self._process.poll() is None, f"it ended: {self._log.read_text()[-2000:]}"
            assert time.monotonic() < deadline, f"not within {within_s} s; {self._log.read_text()[-2000:]}"
            time.sleep(0.2)

    def _reached(self) -> list[Sample]:
        try:
            return [sample for sample in self.query("up") if sample.value == 1]
        except OSError:
            return []  # it has just been started

    def _get(self, what: str, **parameters: str) -> Any:
        try:
            with urllib.request.urlopen(
                f"{self._url}/{what}?{urllib.parse.urlencode(parameters)}", timeout=10
            ) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as refused:
            if refused.code == 503:
                raise ConnectionError("it is not ready") from refused
            raise ValueError(f"{parameters}: {json.load(refused)['error']}") from refused


def _each_second(rules: Path, folder: Path) -> str:
    """A copy of a rule file whose groups have no interval of their own."""
    document: Any = yaml.safe_load(rules.read_text())
    for group in document["groups"]:
        group.pop("interval", None)
    copy = folder / rules.name
    copy.write_text(yaml.safe_dump(document))
    return str(copy)
