from __future__ import annotations

import pytest

from proxylesskd.audit.names import check_count, check_names, current_rows

DATA = ["anna", "ben", "carl"]


def test_fewer_rows_than_identities_fail_and_more_are_stated() -> None:
    short = check_count(["anna", "ben"], DATA)
    assert short.level == "failed"
    assert "expected at least 3 rows" in short.message
    assert "found 2" in short.message
    more = check_count([*DATA, "dora", "emil"], DATA)
    assert more.level == "passed"
    assert "2 more than identities" in more.message
    assert check_count(DATA, DATA).message == "3 rows for 3 identities"


def test_a_missing_name_fails_and_the_nearest_is_named() -> None:
    found = check_names(["anna", "benn", "dora"], DATA)
    assert found.level == "failed"
    assert "found none for 2: 'ben'; did you mean 'benn'?, 'carl'" in found.message
    assert found.details["first_missing"] == ["ben", "carl"]


def test_the_nearest_of_very_many_names() -> None:
    many = [f"x{number}" for number in range(3000)] + ["Anna-2"]
    assert "did you mean 'Anna-2'" in check_names(many, ["anna"]).message


def test_another_order_of_names_is_no_fault() -> None:
    found = check_names(DATA[::-1], DATA)
    assert found.level == "passed"
    assert found.details == {"same_order": False}
    assert current_rows(DATA[::-1], DATA).tolist() == [2, 1, 0]


@pytest.mark.parametrize(("count", "rows"), [(3, [0, 1, 2]), (2, [0, 1, -1])])
def test_numbered_rows_are_taken_by_position_and_that_is_said(count: int, rows: list[int]) -> None:
    numbers = [str(row) for row in range(count)]
    found = check_names(numbers, DATA)
    assert found.level == "warning"
    assert "row 0 to 'anna'" in found.message
    assert current_rows(numbers, DATA).tolist() == rows


def test_numbers_that_are_the_names_of_the_data_are_names() -> None:
    assert check_names(["0", "1", "2"], ["2", "0", "1"]).level == "passed"
    assert current_rows(["0", "1", "2"], ["2", "0", "1"]).tolist() == [2, 0, 1]
    assert current_rows(["a", "b"], ["b", "z"]).tolist() == [1, -1]
