"""Names as bytes, and bytes that are none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxylesskd.data.formats.name_list import pack_names, unpack_names


@given(st.lists(st.text(min_size=1), unique=True))
def test_names_come_back(names: list[str]) -> None:
    assert unpack_names(pack_names(names)) == names


@pytest.mark.parametrize(
    "data",
    [b"", b"{}", b"[1]", b'["a", ""]', b'["a", "a"]', b'["\\ud800"]', b"[" * 90_000, b"\xff", b'["a"] b', b"null"],
)
def test_what_is_no_list_of_names(data: bytes) -> None:
    assert unpack_names(data) is None
