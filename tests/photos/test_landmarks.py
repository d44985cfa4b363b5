"""Landmarks as CSV, by files written by hand and by the csv module."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from proxylesskd.errors import UserError
from proxylesskd.photos import landmarks as module
from proxylesskd.photos.landmarks import COLUMNS, Found, line, read_found, read_landmarks, write_table
from proxylesskd.photos.transform import TEMPLATE

FIVE = "38.3,51.7,73.5,51.5,56,71.7,41.5,92.4,70.7,92.2"
POINTS = np.array([float(v) for v in FIVE.split(",")]).reshape(5, 2)
HEADER = "path,x1,y1,x2,y2,x3,y3,x4,y4,x5,y5"


def file(folder: Path, text: str | bytes) -> Path:
    path = folder / "own.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.mark.parametrize("head", ["", HEADER + "\n", "\ufeff" + HEADER.upper() + "\r\n"])
def test_own_landmarks_with_and_without_header(tmp_path: Path, head: str) -> None:
    read = read_landmarks(file(tmp_path, f'{head}a/b.jpg,{FIVE}\n\n"with, comma/ü.jpg",{FIVE},0.9,extra\n'))
    assert list(read) == ["a/b.jpg", "with, comma/ü.jpg"]
    for points in read.values():
        np.testing.assert_array_equal(points, POINTS)


def test_columns_may_stand_in_any_order(tmp_path: Path) -> None:
    names, cells = HEADER.split(","), ["./a.jpg", *FIVE.split(",")]
    with (tmp_path / "own.csv").open("w", newline="") as out:
        csv.writer(out).writerows([["score", *names[::-1]], ["0.5", *cells[::-1]]])
    np.testing.assert_array_equal(read_landmarks(tmp_path / "own.csv")["a.jpg"], POINTS)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (f"a.jpg,{FIVE}\na.jpg,{FIVE}\n", "'a.jpg' again in line 2"),
        ("a.jpg,1,2,3\n", "found 4 columns; left eye as seen"),
        (f"{HEADER}\na.jpg,{FIVE.replace('56', 'nose')}\n", "five points in pixels in line 2"),
        (f"a.jpg,{FIVE.replace('56', 'inf')}\n", "finite numbers in line 1"),
        (f"path,{HEADER[8:]}\na.jpg,{FIVE}\n", "found no 'x1'"),
        (f'a.jpg,"{FIVE}\n', "comma-separated lines"),
        ("\x00\xff\xfe binary", "columns"),
    ],
)
def test_other_files_are_refused_with_the_place(tmp_path: Path, text: str, found: str) -> None:
    with pytest.raises(UserError, match=found):
        read_landmarks(file(tmp_path, text))


def test_left_and_right_exchanged_is_told(tmp_path: Path) -> None:
    swapped = ",".join(f"{v:.2f}" for v in POINTS[[1, 0, 2, 4, 3]].ravel())
    rows = f"a.jpg,{swapped}\nb.jpg,{swapped}\n"
    with pytest.raises(UserError, match=r"found 2 of 3 faces .* mirrored, first 'a.jpg': exchange left and right"):
        read_landmarks(file(tmp_path, f"{rows}c.jpg,{FIVE}\n"))
    # Single faces may really be so: a profile whose far eye is out of sight.
    assert len(read_landmarks(file(tmp_path, f"a.jpg,{swapped}\nc.jpg,{FIVE}\n"))) == 2


def test_no_file_and_too_large_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="No such file"):
        read_landmarks(tmp_path / "none.csv")
    monkeypatch.setattr(module, "MAX_BYTES", 10)
    with pytest.raises(UserError, match="at most"):
        read_landmarks(file(tmp_path, f"a.jpg,{FIVE}\n"))


def found(path: str, **changes: object) -> Found:
    told = {"score": 0.91234, "box": (1.0, 2.5, 30.0, 40.25), "size": (240, 320), "how": "detected", **changes}
    return Found(path=path, landmarks=TEMPLATE * 1.2345, **told)  # type: ignore[arg-type]


def test_what_is_written_is_read(tmp_path: Path) -> None:
    faces = [found("a/b.jpg"), found('odd "name", 1.png', score=None, box=None, how="given")]
    write_table(tmp_path / "landmarks.csv", COLUMNS, [face.row() for face in faces])
    read = read_found(tmp_path / "landmarks.csv")
    for face in faces:
        np.testing.assert_allclose(read[face.path].landmarks, face.landmarks, atol=5e-4)
        assert (read[face.path].how, read[face.path].size) == (face.how, face.size)
        assert read[face.path].box == face.box
    assert read["a/b.jpg"].score == pytest.approx(0.9123)
    assert read[faces[1].path].score is None
    own = read_landmarks(tmp_path / "landmarks.csv")
    np.testing.assert_allclose(own["a/b.jpg"], TEMPLATE * 1.2345, atol=5e-4)
    assert not list(tmp_path.glob(".*"))


def test_a_line_cut_off_by_a_kill_is_passed_over(tmp_path: Path) -> None:
    whole = line(COLUMNS) + line(found("a.jpg").row())
    path = file(tmp_path, whole + line(found("b.jpg").row())[:-1])
    assert list(read_found(path)) == ["a.jpg"]
    assert read_found(tmp_path / "none.csv") == {}


@pytest.mark.parametrize("text", [f"a.jpg,{FIVE}\nb.jpg,{FIVE}\n", f"{HEADER},score\na.jpg,x,{FIVE},1\n"])
def test_another_table_in_its_place_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(UserError, match="landmarks of an earlier run"):
        read_found(file(tmp_path, text))
