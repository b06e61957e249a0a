"""README's configuration table says what `ClusterConfig` declares."""

from __future__ import annotations

from cluster_app.config import ClusterConfig
from tests.config_table import BEGIN, END, written
from tests.tables import README


def test_every_field_explains_itself() -> None:
    """Each field of the configuration has a description with its unit and its reason."""
    assert [name for name, field in ClusterConfig.model_fields.items() if not field.description] == []


def test_the_table_is_up_to_date() -> None:
    """The table is what ``python -m tests.config_table`` writes."""
    assert README.count(BEGIN) == README.count(END) == 1
    assert written(README) == README
