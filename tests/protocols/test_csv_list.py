from __future__ import annotations

from pathlib import Path

import pytest

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
    assert [(row["path"], row["identity"], row["role"]) for row in rows] == [
        ("a, b.png", "Zoë", "probe"),
        ("c.png", "1", "gallery"),
    ]


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


def test_refuses_other_words_missing_and_huge_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"expected role a, b in .*, found 'c' for 'x'"):
        one_of({"path": "x", "role": "c"}, "role", ("a", "b"), tmp_path)
    with pytest.raises(UserError, match="found no file"):
        read_header(tmp_path / "none.csv")
    monkeypatch.setattr(csv_list, "MAX_BYTES", 10)
    with pytest.raises(UserError, match="found more than"):
        read_rows(written(tmp_path, b"path,identity\na,b\n"), ("path",))
