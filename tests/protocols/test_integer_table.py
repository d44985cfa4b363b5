from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxylesskd.errors import UserError
from proxylesskd.protocols import integer_table
from proxylesskd.protocols.integer_table import read_integers


def put(folder: Path, text: bytes) -> Path:
    (folder / "list.txt").write_bytes(text)
    return folder / "list.txt"


@pytest.mark.parametrize("block", [64, 1 << 20])
def test_numbers_are_those_of_numpy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    monkeypatch.setattr(integer_table, "BLOCK", block)
    table = np.random.default_rng(0).integers(0, 10 ** np.random.default_rng(1).integers(1, 10, (500, 3)))
    np.savetxt(tmp_path / "list.txt", table, fmt="%d")
    found = read_integers(tmp_path / "list.txt", 3, "a b c")
    assert found.dtype == np.int32
    np.testing.assert_array_equal(found, table)


@pytest.mark.parametrize("text", [b"1 2\n3 4", b"1\t2\r\n\r\n  3   4  \r\n\n", b"\n\n1 2\n3 4\n"])
def test_spaces_and_blank_lines_do_not_count(tmp_path: Path, text: bytes) -> None:
    np.testing.assert_array_equal(read_integers(put(tmp_path, text), 2, "a b"), [[1, 2], [3, 4]])


def test_an_empty_file_has_no_lines(tmp_path: Path) -> None:
    assert read_integers(put(tmp_path, b""), 2, "a b").shape == (0, 2)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (b"1 2\n3\n5 6\n", 2),
        (b"1 2\n3 4 5\n", 2),
        (b"1 2\n3 -4\n", 2),
        (b"1 2\n\n3 4.0\n", 3),
        (b"1 x\n3\n", 1),
        (b"1 2\n3 1234567890\n", 2),
        (b"1 2\n\xff\xfe 3", 2),
        (b"1 2\n3 4\0\n", 2),
    ],
)
def test_another_line_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: bytes, line: int) -> None:
    with pytest.raises(UserError, match=f"expected 'a b' in line {line} of"):
        read_integers(put(tmp_path, text), 2, "a b")
    monkeypatch.setattr(integer_table, "BLOCK", 13)
    with pytest.raises(UserError, match=f"in line {line + 3} of"):
        read_integers(put(tmp_path, b"7 8\n" * 3 + text), 2, "a b")


def test_a_file_that_is_one_line_does_not_fill_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(integer_table, "BLOCK", 100)
    with pytest.raises(UserError, match="16 MiB"):
        read_integers(put(tmp_path, b"1" * 1000), 2, "a b")
    monkeypatch.setattr(integer_table, "MAX_BYTES", 10)
    with pytest.raises(UserError, match="at most"):
        read_integers(put(tmp_path, b"1 2\n" * 10), 2, "a b")


def test_no_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is the set complete"):
        read_integers(tmp_path / "none.txt", 2, "a b")


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from([b"1", b"23", b" ", b"\n", b"-", b"\t", b"\r", b"9" * 9, b"x"]), max_size=30))
def test_whatever_stands_there_is_read_as_python_reads_it_or_refused(tmp_path: Path, pieces: list[bytes]) -> None:
    text = b"".join(pieces)
    try:
        rows = [[int(word) for word in line.split()] for line in text.split(b"\n")]
        sound = (
            b"-" not in text and all(len(row) in (0, 2) for row in rows) and all(max(r, default=0) < 1e9 for r in rows)
        )
    except ValueError:
        sound = False
    if sound:
        expected = [row for row in rows if row]
        assert read_integers(put(tmp_path, text), 2, "a b").tolist() == expected
    else:
        with pytest.raises(UserError):
            read_integers(put(tmp_path, text), 2, "a b")
