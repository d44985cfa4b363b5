"""Lists of images: both parsers against rows spelt out, what is found where, and what is refused."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxylesskd.data.formats import list_table, resumable
from proxylesskd.data.formats.list_table import read_table
from proxylesskd.data.formats.listing import ListSource, write_list
from proxylesskd.data.source import open_source
from proxylesskd.errors import CorruptImageError, UserError
from tests.faces import MemorySource


@pytest.fixture(params=["pyarrow", "standard library"])
def parser(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "pyarrow":
        pytest.importorskip("pyarrow")
    else:
        monkeypatch.setitem(sys.modules, "pyarrow", None)


def put(path: Path, text: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def rows_of(path: Path) -> list[tuple[str, str]]:
    table = read_table(path)
    return [(table.path(i), table.names[label]) for i, label in enumerate(table.labels.tolist())]


ROWS = [("a/1.jpg", "Zoë"), ("a/2,x.jpg", "Adam"), ("b 3.jpg", 'the "one"'), ("a/1.jpg", "Zoë")]


@pytest.mark.usefixtures("parser")
@pytest.mark.parametrize(
    "text",
    [
        'path,label\na/1.jpg,Zoë\n"a/2,x.jpg",Adam\nb 3.jpg,"the ""one"""\na/1.jpg,Zoë\n',
        '\ufeff"path","identity"\r\na/1.jpg,Zoë\r\n"a/2,x.jpg",Adam\r\n\r\nb 3.jpg,"the ""one"""\r\na/1.jpg,Zoë',
        'label\tn\timage\nZoë\t1\ta/1.jpg\nAdam\t2\ta/2,x.jpg\n"the ""one"""\t3\tb 3.jpg\nZoë\t4\ta/1.jpg\n',
        ' path , label ,x\na/1.jpg,Zoë,NA\n"a/2,x.jpg",Adam,\nb 3.jpg,"the ""one""",1\na/1.jpg,Zoë,2\n',
    ],
)
def test_both_parsers_read_commas_tabs_quotes_and_marks(tmp_path: Path, text: str) -> None:
    assert rows_of(put(tmp_path / "l.csv", text)) == ROWS


@pytest.mark.usefixtures("parser")
def test_words_that_libraries_take_for_nothing_or_numbers_stay_as_they_are(tmp_path: Path) -> None:
    words = ["NA", "null", "NaN", "007", "1e3", "true", "2020-01-01", "-1", "0x1f"]
    path = put(tmp_path / "l.csv", "path,label\n" + "".join(f"{w},{w}\n" for w in words))
    assert rows_of(path) == [(w, w) for w in words]


WORDS = st.text(st.characters(blacklist_categories=("Cs",), blacklist_characters="\0"), min_size=1, max_size=12)


@settings(max_examples=60, deadline=None)
@given(rows=st.lists(st.tuples(WORDS, WORDS), min_size=1, max_size=8))
def test_both_parsers_read_whatever_the_standard_library_wrote(
    rows: list[tuple[str, str]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    pytest.importorskip("pyarrow")
    path = tmp_path_factory.mktemp("any") / "l.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, quoting=csv.QUOTE_ALL).writerows([("path", "label"), *rows])
    header = list_table._header(path)
    for parse in (list_table._by_arrow, list_table._by_standard_library):
        table = parse(path, header)
        assert [(table.path(i), table.names[k]) for i, k in enumerate(table.labels.tolist())] == rows


@pytest.mark.usefixtures("parser")
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "header with path or image and label or identity"),
        ("a.jpg,x\n", "found 'a.jpg,x'"),
        ("pth,label\n", "did you mean 'path'"),
        ("path,image,label\na,b,c\n", "once each"),
        ("path,label,label\na,b,c\n", "once each"),
        ("path,label\n", "found a header alone"),
        ("path,label\na.jpg\n", r"expected a list 'path,label' at .* found .*1"),
        ("path,label\na.jpg,x,y\n", r"expected a list 'path,label' at .* found .*3"),
        ("path,label\na.jpg,x\n,y\n", "a path in each row of .* found 0 bytes in row 2"),
        ("path,label\na.jpg,x\nb.jpg,\n", "a label in each row of .* found '' in row 2"),
        ("path,label\na.jpg," + "x" * 2000, "a label in each row"),
        ("path,label\n" + "x" * 70_000 + ",x\n", "a path in each row"),
        ("path,label\na\0.jpg,x\n", "zero byte|expected a list|NUL"),
        (b"path,label\n\xff.jpg,x\n", "UTF-8|UTF8"),
        (b"\xff\xfep\0a\0t\0h\0", "UTF-8"),
    ],
)
def test_refuses(tmp_path: Path, text: str | bytes, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        read_table(put(tmp_path / "l.csv", text))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600


def test_refuses_what_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="No such file"):
        read_table(tmp_path / "none.csv")
    monkeypatch.setattr(list_table, "MAX_BYTES", 10)
    with pytest.raises(UserError, match="more than"):
        read_table(put(tmp_path / "l.csv", "path,label\na,b\n"))


def faces(tmp_path: Path, *names: str) -> None:
    for name in names:
        put(tmp_path / name, f"bytes of {name}")


def test_paths_are_relative_to_the_list_or_the_root(tmp_path: Path) -> None:
    faces(tmp_path, "a/1.jpg", "b/2.jpg")
    text = "path,label\na/1.jpg,x\nb/2.jpg,y\nb/gone.jpg,y\n"
    source = open_source(f"csv:{put(tmp_path / 'l.csv', text)}")
    assert source.read(1) == (b"bytes of b/2.jpg", 1)
    assert source.name(1) == "b/2.jpg"
    with pytest.raises(CorruptImageError, match="No such file"):
        source.read(2)
    away = put(tmp_path / "lists" / "l.csv", text)
    with pytest.raises(UserError, match=r"found none of 3 looked for, the first 'a/1.jpg'; give their folder.*\?root="):
        ListSource(away)
    assert open_source(f"csv:{away}?root={tmp_path}").read(0) == (b"bytes of a/1.jpg", 0)


def test_paths_stay_within_the_root_unless_the_user_lets_them_out(tmp_path: Path) -> None:
    faces(tmp_path, "in/1.jpg", "out.jpg", "inn/2.jpg")
    for escape in (f"{tmp_path}/out.jpg", "../out.jpg", "deeper/../../out.jpg", "/etc/passwd", "../inn/2.jpg"):
        path = put(tmp_path / "in" / "l.csv", f"path,label\n1.jpg,x\n{escape},x\n")
        with pytest.raises(UserError, match=r"expected images within .* in row 2; if you trust the list") as caught:
            ListSource(path)
        assert escape in str(caught.value)
        wide = open_source(f"csv:{path}?outside=yes")
        if escape.startswith("..") or "deeper" in escape:
            (tmp_path / "in" / "deeper").mkdir(exist_ok=True)
            assert wide.read(1)[0] == b"bytes of " + (b"inn/2.jpg" if "inn" in escape else b"out.jpg")
    inside = put(tmp_path / "in" / "l.csv", f"path,label\n..jpg,y\nx/../1.jpg,x\n{tmp_path}/in/1.jpg,y\n")
    (tmp_path / "in" / "x").mkdir()
    assert ListSource(inside).read(2)[0] == b"bytes of in/1.jpg"
    put(inside, f"path,label\n{tmp_path}/out.jpg,x\n")
    assert open_source(f"csv:{inside}?root=/").read(0)[0] == b"bytes of out.jpg"
    with pytest.raises(UserError, match="expected outside=yes or outside=no"):
        open_source(f"csv:{inside}?outside=maybe")


@pytest.mark.parametrize(
    ("labels", "wanted"),
    [
        (["10", "9", "0", "10"], ["0", "9", "10"]),
        (["10", "9", "x"], ["10", "9", "x"]),
        (["01", "1", "10"], ["01", "1", "10"]),
    ],
)
def test_numbers_are_ordered_by_value_names_as_text(tmp_path: Path, labels: list[str], wanted: list[str]) -> None:
    faces(tmp_path, "1.jpg")
    path = put(tmp_path / "l.csv", "path,identity\n" + "".join(f"1.jpg,{label}\n" for label in labels))
    source = ListSource(path)
    assert source.identities == wanted
    assert [source.identities[label] for label in source.labels] == labels
    assert not source.labels.flags.writeable


def test_a_list_written_is_read_again(tmp_path: Path) -> None:
    source = MemorySource(4, 3)
    source.identities = ["../evil", 'a,"b"', "new\nline", "李"]
    source.labels = np.array([2, 0, 1, 3] * 3, np.int64)
    written = write_list(source, tmp_path / "out")
    assert (written.images, written.skipped) == (12, {})
    with (tmp_path / "out" / "faces.csv").open(newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    assert header == ["path", "label"]
    order = sorted(range(12), key=lambda i: (source.labels[i], i))
    for (path, label), index in zip(rows, order, strict=True):
        assert (tmp_path / "out" / path).read_bytes() == source.read(index)[0]
        assert label == source.identities[source.labels[index]]
    again = open_source(f"csv:{tmp_path / 'out'}")
    assert [again.identities[again.read(i)[1]] for i in range(12)] == [row[1] for row in rows]
    with pytest.raises(UserError, match="leave the suffix out"):
        write_list(source, tmp_path / "faces.csv")


class Dying(MemorySource):
    left = 10**9

    def read(self, index: int) -> tuple[bytes, int]:
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt
        if index in (3, 21):
            raise CorruptImageError("gone")
        return super().read(index)


def test_goes_on_after_a_kill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resumable, "EVERY", 10)
    dying = Dying(6, 7)
    dying.left = 42 + 25
    with pytest.raises(KeyboardInterrupt):
        write_list(dying, tmp_path / "out")
    with (tmp_path / "out.part" / "faces.csv").open("a") as file:
        file.write("half a li")
    dying.left = 42 + 22
    written = write_list(dying, tmp_path / "out")
    assert (written.images, sorted(written.skipped)) == (40, [3, 21])
    source = ListSource(tmp_path / "out")
    assert [source.read(i)[0] for i in range(40)] == [dying._data[i] for i in range(42) if i not in (3, 21)]
    assert source.identities == dying.identities
