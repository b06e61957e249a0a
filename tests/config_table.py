"""README's configuration table, made of `ClusterConfig`; ``python -m tests.config_table`` rewrites it."""

from __future__ import annotations

from cluster_app.config import ClusterConfig
from tests.source import ROOT

__all__ = ["BEGIN", "END", "rows", "written"]

BEGIN, END = "<!-- config: begin -->\n", "<!-- config: end -->\n"


def rows() -> str:
    """The table as it should stand in README, one row per field in the order of declaration."""
    lines = ["| field | default | environment | meaning |", "|---|---|---|---|"]
    for name, field in ClusterConfig.model_fields.items():
        meaning = " ".join((field.description or "").split()).replace("|", "\\|")
        lines.append(
            f"| `{name}` | `{field.get_default(call_default_factory=True)!r}` | "
            f"`CLUSTER_APP_{name.upper()}` | {meaning} |"
        )
    return "\n".join(lines) + "\n"


def written(readme: str) -> str:
    """README with the table in its place."""
    before, _, rest = readme.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}{rows()}{END}{after}"


if __name__ == "__main__":
    path = ROOT / "README.md"
    path.write_text(written(path.read_text(encoding="utf-8")), encoding="utf-8")
