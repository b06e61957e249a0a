"""Addresses: what a valid id is, and that the printed form can be read back."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entities.address import EntityAddress, check_entity_id

ids = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=128)


@given(entity_id=ids)
def test_the_printed_form_can_be_read_back(entity_id: str) -> None:
    """Whatever the id holds, slashes too."""
    address = EntityAddress("Aircraft", entity_id)
    assert EntityAddress.parse(str(address)) == address


@pytest.mark.parametrize("text", ["", "x", "/x", "x/"])
def test_what_is_no_address_is_refused(text: str) -> None:
    """No type, or no id."""
    with pytest.raises(ValueError, match=r"address|empty"):
        EntityAddress.parse(text)


@pytest.mark.parametrize("size", [511, 512])
def test_an_id_may_have_512_bytes(size: int) -> None:
    """Bytes, not characters."""
    assert check_entity_id("x" * size) == "x" * size
    assert check_entity_id("é" * 256) == "é" * 256


@pytest.mark.parametrize("bad", ["", "x" * 513, "é" * 257, "\ud800", 7, None, b"x"])
def test_a_bad_id_is_refused(bad: Any) -> None:
    """Empty, too long, not valid Unicode, not a str."""
    with pytest.raises(ValueError, match="entity id"):
        check_entity_id(bad)


def test_an_id_of_a_derived_class_is_taken_for_its_text() -> None:
    """It travels, and where it arrives nobody may know that class."""

    class City(StrEnum):
        LAX = "lax"

    assert type(check_entity_id(City.LAX)) is str
    assert check_entity_id(City.LAX) == "lax"
