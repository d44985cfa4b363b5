from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from proxylesskd.data.formats import list_order
from proxylesskd.data.formats.list_order import ORDER, ordered, read_order, write_order
from proxylesskd.errors import UserError


def test_numbers_by_value_text_as_text() -> None:
    numbers = [str(n) for n in (3, 10, 2, 0, 111)]
    assert ordered(numbers) == [str(n) for n in sorted(map(int, numbers))]
    for names in (["3", "10", "02"], ["3", "10", "x"], ["٣", "10"], []):
        assert ordered(names) == sorted(names)


@pytest.mark.parametrize("names", [["b", "a", "c"], ["10", "9"], ["é", "e", "\n"]])
def test_an_order_comes_back_whatever_the_list_shows_first(tmp_path: Path, names: list[str]) -> None:
    write_order(tmp_path, names)
    shown = random.Random(0).sample(names, len(names))
    assert read_order(tmp_path, shown) == names
    assert read_order(tmp_path, [*shown[1:], "zz", "aa"]) == [n for n in names if n != shown[0]] + ["aa", "zz"]


def test_a_sorted_order_needs_no_file(tmp_path: Path) -> None:
    for names in (["a", "b"], ["9", "10"]):
        write_order(tmp_path, names)
        assert not (tmp_path / ORDER).exists()
        assert read_order(tmp_path, names[::-1]) == names


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", "[" * 90_000, '{"identities": "ab"}', '{"identities": [1]}', '{"identities": ["a", "a"]}']
)
def test_a_broken_order_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / ORDER).write_text(text)
    with pytest.raises(UserError, match=r"expected names in order at .*; remove it"):
        read_order(tmp_path, ["a"])


def test_a_huge_order_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ORDER).write_text(json.dumps({"identities": ["a"] * 3}))
    monkeypatch.setattr(list_order, "MAX_ORDER_BYTES", 10)
    with pytest.raises(UserError, match="more than a GiB"):
        read_order(tmp_path, ["a"])
