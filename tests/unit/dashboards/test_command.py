"""``cluster-app dashboards``: what is written, what is told, and what is refused. It needs no cluster."""

from __future__ import annotations

import configparser
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster_app import cli
from tests.deployed_files import deployed_files
from tests.unit.dashboards.queries import panels

OURS = ("--ray-dashboards", "none")
"""Without Ray's own dashboards, which take a second to make."""

RAY_LEAVES_FILES_OPEN = pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
"""Ray opens its templates and leaves closing them to Python."""


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the options read from the environment is not set."""
    for name in ("DEFAULT_DASHBOARD_UID", "HOST"):
        monkeypatch.delenv(f"RAY_GRAFANA_{name}", raising=False)
    for name in ("HOST", "NAME"):
        monkeypatch.delenv(f"RAY_PROMETHEUS_{name}", raising=False)


def told(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """The one object on standard output."""
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_a_folder_gets_dashboards_provisioning_and_rules(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """All files are there, are the deployed ones of that set, and Grafana finds them by the paths in them."""
    out = tmp_path / "new" / "folder"
    assert cli.run(["dashboards", "--out", str(out), "--names", "otlp", *OURS, "--json"]) == 0
    assert told(capsys) == {
        "out": str(out),
        "names": "otlp",
        "environment": {"RAY_PROMETHEUS_HOST": "http://localhost:9090", "RAY_PROMETHEUS_NAME": "Prometheus"},
        "written": [
            "dashboards/cluster-app/idle-time.json",
            "dashboards/cluster-app/overview.json",
            "grafana.ini",
            "prometheus/cluster-app-alerts.yaml",
            "provisioning/dashboards/cluster-app.yaml",
            "provisioning/datasources/cluster-app.yaml",
        ],
        "unchanged": [],
    }
    deployed = deployed_files()
    for ours, theirs in (
        ("dashboards/cluster-app/overview.json", "deploy/grafana/cluster-app-overview-otlp.json"),
        ("dashboards/cluster-app/idle-time.json", "deploy/grafana/cluster-app-idle-time-otlp.json"),
        ("prometheus/cluster-app-alerts.yaml", "deploy/prometheus/cluster-app-alerts-otlp.yaml"),
    ):
        assert (out / ours).read_text() == deployed[theirs]
    settings = configparser.ConfigParser()
    settings.read(out / "grafana.ini")
    assert settings["paths"]["provisioning"] == str(out / "provisioning")
    assert settings["server"]["http_addr"] == "127.0.0.1"
    (provider,) = yaml.safe_load((out / "provisioning/dashboards/cluster-app.yaml").read_text())["providers"]
    assert provider["options"]["path"] == str(out / "dashboards/cluster-app")


def test_the_same_again_changes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A second run writes no file; another set of names takes the place of the first; strangers stay."""
    line = ["dashboards", "--out", str(tmp_path), *OURS, "--json"]
    (tmp_path / "notes.txt").write_text("mine")
    assert cli.run(line) == 0
    first = told(capsys)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert cli.run(line) == 0
    again = told(capsys)
    assert (again["written"], again["unchanged"]) == ([], first["written"])
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
    assert cli.run([*line, "--names", "otlp"]) == 0
    assert told(capsys)["written"] == [
        "dashboards/cluster-app/idle-time.json",
        "dashboards/cluster-app/overview.json",
        "prometheus/cluster-app-alerts.yaml",
    ]
    assert set(before) == set(tmp_path.rglob("*"))


@RAY_LEAVES_FILES_OPEN
def test_people_are_told_what_to_do_next(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without --json the files are listed, with what Grafana, Prometheus and Ray are to be told."""
    assert cli.run(["dashboards", "--out", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert f"{tmp_path}/dashboards/ray/metrics-tab.json\n" in out
    assert f"grafana server --config {tmp_path}/grafana.ini" in out
    assert f"rule_files: [{tmp_path}/prometheus/cluster-app-alerts.yaml]" in out
    assert "export RAY_GRAFANA_DEFAULT_DASHBOARD_UID=cluster-app-metrics-tab\n" in out


def test_options_reach_the_files(tmp_path: Path) -> None:
    """The data source, the path that Grafana sees and the runbook's address are as asked."""
    line = ["dashboards", "--out", str(tmp_path), *OURS, "--seen-as", "/mounted", "--datasource", "Main"]
    more = ["--prometheus", "http://prometheus:9090", "--runbook", "https://wiki.example/cluster-app"]
    assert cli.run([*line, *more]) == 0
    (source,) = yaml.safe_load((tmp_path / "provisioning/datasources/cluster-app.yaml").read_text())[
        "datasources"
    ]
    assert (source["name"], source["url"]) == ("Main", "http://prometheus:9090")
    assert "isDefault" not in source
    (provider,) = yaml.safe_load((tmp_path / "provisioning/dashboards/cluster-app.yaml").read_text())[
        "providers"
    ]
    assert provider["options"]["path"] == "/mounted/dashboards/cluster-app"
    assert "provisioning = /mounted/provisioning" in (tmp_path / "grafana.ini").read_text()
    rules = (tmp_path / "prometheus/cluster-app-alerts.yaml").read_text()
    assert "runbook_url: https://wiki.example/cluster-app#clusterappmailboxfull" in rules


@RAY_LEAVES_FILES_OPEN
def test_the_environment_that_ray_reads_is_read_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where Ray's variables are set already, the files agree with them."""
    monkeypatch.setenv("RAY_GRAFANA_DEFAULT_DASHBOARD_UID", "ours")
    monkeypatch.setenv("RAY_PROMETHEUS_HOST", "http://prometheus:9090")
    monkeypatch.setenv("RAY_PROMETHEUS_NAME", "Main")
    assert cli.run(["dashboards", "--out", str(tmp_path), "--ray-dashboards", "tab", "--json"]) == 0
    assert told(capsys)["environment"] == {
        "RAY_GRAFANA_DEFAULT_DASHBOARD_UID": "ours",
        "RAY_PROMETHEUS_HOST": "http://prometheus:9090",
        "RAY_PROMETHEUS_NAME": "Main",
    }
    assert json.loads((tmp_path / "dashboards/ray/metrics-tab.json").read_text())["uid"] == "ours"


def test_a_folder_that_cannot_be_written_is_refused_in_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file where a folder should be: what could not be written, why, and what to do; exit code 1."""
    (tmp_path / "file").write_text("")
    assert cli.run(["dashboards", "--out", str(tmp_path / "file" / "below"), *OURS]) == 1
    problem, hint = capsys.readouterr().err.splitlines()
    assert problem.startswith(f"error: cannot write {tmp_path}/file") and problem.endswith("Not a directory")
    assert hint.startswith("hint: name a folder by --out")


def test_a_folder_in_which_nobody_may_write_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """Not even root may write there: a line and a hint, no traceback."""
    assert cli.run(["dashboards", "--out", "/proc/dashboards", *OURS]) == 1
    problem, hint = capsys.readouterr().err.splitlines()
    assert problem.startswith("error: cannot write /proc/dashboards")
    assert hint.startswith("hint: name a folder by --out")


@RAY_LEAVES_FILES_OPEN
def test_a_dashboard_of_the_same_uid_is_not_left_beside_ours(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ray stamps its own default dashboard with the same uid: where it writes into this folder, that is refused."""
    stranger = tmp_path / "dashboards" / "default_grafana_dashboard.json"
    stranger.parent.mkdir()
    stranger.write_text(json.dumps({"uid": "cluster-app-metrics-tab"}))
    assert cli.run(["dashboards", "--out", str(tmp_path), "--ray-dashboards", "tab"]) == 1
    problem, hint = capsys.readouterr().err.splitlines()
    assert str(stranger) in problem and "cluster-app-metrics-tab" in problem
    assert "RAY_METRICS_GRAFANA_DASHBOARD_OUTPUT_DIR" in hint
    assert not (tmp_path / "grafana.ini").exists()
    stranger.write_text(json.dumps({"uid": "rayDefaultDashboard"}))
    assert cli.run(["dashboards", "--out", str(tmp_path), "--ray-dashboards", "tab"]) == 0


@pytest.mark.parametrize("uid", ["", "two words", "x" * 41, "ü"])
def test_a_uid_that_grafana_would_not_take_is_a_wrong_command_line(
    uid: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The uid is named, with what one looks like; exit code 2, and nothing is written."""
    assert cli.run(["dashboards", "--out", str(tmp_path), "--uid", uid]) == 2
    assert capsys.readouterr().err.splitlines() == [
        f"error: {uid!r} is no uid for Grafana",
        "hint: --uid takes 1 to 40 letters, digits, - and _",
    ]
    assert list(tmp_path.iterdir()) == []


def test_what_is_not_installed_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without the extra, the command says how to get it."""
    for module in [name for name in sys.modules if name.startswith("cluster_app.dashboards")]:
        monkeypatch.delitem(sys.modules, module)
    for module in [name for name in sys.modules if name.partition(".")[0] == "grafana_foundation_sdk"]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "grafana_foundation_sdk", None)
    assert cli.run(["dashboards", "--out", str(tmp_path)]) == 1
    assert "hint: pip install '.[dashboards]' in its checkout" in capsys.readouterr().err


@RAY_LEAVES_FILES_OPEN
@pytest.mark.parametrize("names", ["ray", "otlp"])
def test_the_metrics_tab_is_rays_own_with_the_overview_on_top(names: str, tmp_path: Path) -> None:
    """Every panel of Ray's is there under its number and with its queries, below ours; none stands on another."""
    from ray.dashboard.modules.metrics.grafana_dashboard_factory import generate_default_grafana_dashboard

    assert cli.run(["dashboards", "--out", str(tmp_path), "--names", names]) == 0
    of_ray = json.loads(generate_default_grafana_dashboard()[0])
    ours = json.loads((tmp_path / "dashboards/cluster-app/overview.json").read_text())
    tab = json.loads((tmp_path / "dashboards/ray/metrics-tab.json").read_text())

    merged = {panel["id"]: panel for panel in panels(tab)}
    assert len(merged) == len(panels(tab)) == len(panels(of_ray)) + len(panels(ours))
    for panel in panels(of_ray):
        assert merged[panel["id"]]["title"] == panel["title"]
        assert merged[panel["id"]].get("targets") == panel.get("targets")
    # The pages of Ray that show single panels ask for these two by number.
    assert (merged[24]["title"], merged[41]["title"]) == ("Node Count", "Cluster Utilization")
    assert [panel["title"] for panel in panels(tab)][: len(panels(ours))] == [
        panel["title"] for panel in panels(ours)
    ]
    taken: set[tuple[int, int]] = set()
    for panel in tab["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        taken |= cells

    # What Ray's page hands over in the address, and what the queries on either side need.
    variables = [variable["name"] for variable in tab["templating"]["list"]]
    assert len(variables) == len(set(variables))
    assert {"SessionName", "Cluster", "datasource"} <= set(variables)
    for dashboard in (of_ray, ours):
        assert {variable["name"] for variable in dashboard["templating"]["list"]} <= set(variables)


@RAY_LEAVES_FILES_OPEN
def test_ray_itself_names_the_metrics_tab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray's dashboard, told the uid, shows that one; and every other dashboard that it shows is written as well."""
    from ray.dashboard.modules.metrics.metrics_head import MetricsHead
    from ray.dashboard.subprocesses.module import SubprocessModuleConfig

    out = tmp_path / "out"
    assert cli.run(["dashboards", "--out", str(out)]) == 0
    monkeypatch.setenv("RAY_GRAFANA_DEFAULT_DASHBOARD_UID", "cluster-app-metrics-tab")
    monkeypatch.setenv("RAY_METRICS_GRAFANA_DASHBOARD_OUTPUT_DIR", str(tmp_path / "of-ray"))
    session = tmp_path / "session"
    settings = SubprocessModuleConfig(
        cluster_id_hex="",
        gcs_address="",
        session_name="session",
        temp_dir=str(tmp_path),
        session_dir=str(session),
        logging_level="INFO",
        logging_format="",
        log_dir=str(session),
        logging_filename="dashboard.log",
        logging_rotate_bytes=0,
        logging_rotate_backup_count=0,
        socket_dir=str(session),
    )
    head_of: Any = MetricsHead
    head = head_of(settings)
    head._create_default_grafana_configs()
    shown = dict(head._dashboard_uids)
    written = {json.loads(path.read_text())["uid"] for path in (out / "dashboards").rglob("*.json")}
    assert shown.pop("default") == "cluster-app-metrics-tab"
    assert {*shown.values(), "cluster-app-metrics-tab"} <= written
    # Ray's own bears the same uid, which is why it must not reach the same Grafana.
    stamped = json.loads((tmp_path / "of-ray" / "default_grafana_dashboard.json").read_text())
    assert stamped["uid"] == "cluster-app-metrics-tab" and stamped["title"] == "Default Dashboard"


def test_another_ray_that_keeps_its_dashboards_elsewhere_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where Ray's own cannot be had, that is said with the way round it, and nothing is written."""
    from ray.dashboard.modules.metrics import grafana_dashboard_factory

    monkeypatch.delattr(grafana_dashboard_factory, "generate_default_grafana_dashboard")
    assert cli.run(["dashboards", "--out", str(tmp_path)]) == 1
    problem, hint = capsys.readouterr().err.splitlines()
    assert "does not tell its default dashboard" in problem
    assert hint == "hint: --ray-dashboards none leaves Ray's own out"
    assert list(tmp_path.iterdir()) == []
