from __future__ import annotations

import pytest
import torch

from proxylesskd.audit.patterns import best_pattern, numeric_key


def test_numbers_inside_names_count_by_value() -> None:
    names = ["id-10", "id-2", "id-2b", "b", "7", "007", "id-" + "9" * 5000]
    assert sorted(names, key=numeric_key)[:2] == ["7", "007"]
    assert sorted(names[:3], key=numeric_key) == ["id-2", "id-2b", "id-10"]


def test_the_rule_that_explains_most_is_named() -> None:
    names = ["b", "a", "D", "c"]
    current = torch.arange(4)
    data = ["a", "c", "D", "b"]  # rows in the order of the data: row 0 is a's
    found = best_pattern(names, data, current, torch.tensor([3, 0, 2, 1]))
    assert found is not None
    assert found.name == "in the order of the data"
    assert found.share == 1.0
    casefold = best_pattern(names, data, current, torch.tensor([1, 0, 3, 2]))
    assert casefold is not None
    assert "without regard to case" in casefold.name


def test_rows_at_home_are_no_shift() -> None:
    here = torch.arange(3)
    found = best_pattern(["a", "b", "c"], ["a", "b", "c"], here, here)
    assert found is not None
    assert found.name == "in reverse"
    assert found.share == pytest.approx(1 / 3)


def test_no_identities_give_no_shift() -> None:
    nothing = torch.empty(0, dtype=torch.int64)
    assert best_pattern(["a", "b"], ["a", "b"], nothing, nothing) is not None
