from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis.strategies import binary, lists, sampled_from

from proxylesskd.errors import UserError
from proxylesskd.protocols import csv_list
from proxylesskd.protocols.csv_list import one_of, read_header, read_rows


def written(folder: Path, content: bytes) -> Path:
    (folder / "list.csv").write_bytes(content)
    return folder / "list.csv"


def test_reads_columns_in_any_order(tmp_path: Path) -> None:
    path = written(
        tmp_path, '\ufeffrole,path,note, identity\r\nprobe,"a, b.png",,Zoë \r\n\r\n\ngallery,c.png,x,1\n'.encode()
    )
    assert read_header(path) == ("role", "path", "note", "identity")
    rows = read_rows(path, ("path", "identity", "role"))
    assert rows == [("a, b.png", "Zoë", "probe"), ("c.png", "1", "gallery")]


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"", "expected the columns path,identity"),
        (b"path,label\na,b\n", "found path,label"),
        (b"path,identity\n", "expected lines below the header"),
        (b"path,identity\na\n", "expected 2 values in line 2 of .* found 1"),
        (b"path,identity\na,b\n\nc,\n", "expected a value for identity in line 4"),
        (b"path,identity\n\xff,a\n", "UTF-8"),
        (b"\xff,identity\na,a\n", "a CSV with a header"),
        (b"path,identity\na," + b"x" * 200_000 + b"\n", "expected comma-separated lines"),
    ],
)
def test_refuses_other_lists(tmp_path: Path, content: bytes, found: str) -> None:
    with pytest.raises(UserError, match=found):
        read_rows(written(tmp_path, content), ("path", "identity"))


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    binary(max_size=60)
    | lists(sampled_from(["a", ",", '"', "\n", "\r", "\0", "ü", " "])).map(lambda t: "".join(t).encode())
)
def test_anything_is_read_or_refused(tmp_path: Path, content: bytes) -> None:
    try:
        rows = read_rows(written(tmp_path, b"path,identity\n" + content), ("path", "identity"))
    except UserError:
        return
    assert all(len(row) == 2 and all(row) for row in rows)


def test_refuses_other_words_missing_and_huge_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert one_of("b", ("a", "b"), "role", tmp_path) == 1
    with pytest.raises(UserError, match=r"expected role a or b in .*, found 'c'"):
        one_of("c", ("a", "b"), "role", tmp_path)
    with pytest.raises(UserError, match="found no file"):
        read_header(tmp_path / "none.csv")
    three = written(tmp_path, b"path,identity\na,b\na,b\na,b\n")
    monkeypatch.setattr(csv_list, "MAX_LINES", 3)
    assert len(read_rows(three, ("path",))) == 3
    monkeypatch.setattr(csv_list, "MAX_LINES", 2)
    with pytest.raises(UserError, match="2 at most, found more"):
        read_rows(three, ("path",))
    monkeypatch.setattr(csv_list, "MAX_BYTES", 10)
    with pytest.raises(UserError, match="found more than"):
        read_rows(written(tmp_path, b"path,identity\na,b\n"), ("path",))
