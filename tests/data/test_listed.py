from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from proxylesskd.data.listed import listed
from proxylesskd.errors import UserError
from tests.faces import MemorySource


def _list(folder: Path, *lines: str) -> Path:
    path = folder / "keep.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_images_come_in_the_order_of_the_source_whatever_the_list_says(tmp_path: Path) -> None:
    source = MemorySource(3, 2)
    path = _list(tmp_path, "image,identity", "image 5,id-002", "image 0,id-000", "image 4,id-002")
    chosen = listed(source, path)
    assert len(chosen) == 3
    assert [chosen.name(index) for index in range(3)] == ["image 0", "image 4", "image 5"]
    # id-001 has no image left: it is gone and the labels close up
    assert list(chosen.identities) == ["id-000", "id-002"]
    assert chosen.labels.tolist() == [0, 1, 1]
    assert chosen.labels.dtype == np.int64
    assert [chosen.read(index) for index in range(3)] == [
        (source.read(0)[0], 0),
        (source.read(4)[0], 1),
        (source.read(5)[0], 1),
    ]


def test_new_names_come_behind_those_of_the_source(tmp_path: Path) -> None:
    path = _list(tmp_path, "image,identity", "image 0,zoe", "image 1,id-001", "image 2,id-001", 'image 3,"adam, jr"')
    chosen = listed(MemorySource(2, 2), path)
    assert list(chosen.identities) == ["id-001", "adam, jr", "zoe"]
    assert [chosen.identities[label] for label in chosen.labels] == ["zoe", "id-001", "id-001", "adam, jr"]


def test_a_list_of_windows_reads_the_same(tmp_path: Path) -> None:
    path = tmp_path / "keep.csv"
    path.write_bytes(b"image,identity\r\nimage 0,id-000\r\nimage 1,id-000\r\n")
    assert listed(MemorySource(1, 2), path).labels.tolist() == [0, 0]


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        (["image,person", "image 0,id-000"], "expected the header image,identity in '{path}', found image,person"),
        (["image,identity"], "expected images in '{path}', found a header alone"),
        (["image,identity", "image 0"], "expected an image and an identity in line 2 of '{path}', found ['image 0']"),
        (["image,identity", "image 0,"], "in line 2 of '{path}', found ['image 0', '']"),
        (["image,identity", "image 0,a,b"], "in line 2 of '{path}', found ['image 0', 'a', 'b']"),
        (
            ["image,identity", "image 0,a", "image 1,a", "image 0,b"],
            "expected every image once in '{path}', found 'image 0' again in line 4",
        ),
        (
            ["image,identity", "imag 3,a"],
            "expected images of the source in '{path}', found 'imag 3', which it does not have; did you mean 'image 3'?"
            "; give the list that was made of this source",
        ),
    ],
)
def test_a_wrong_list_is_refused(tmp_path: Path, lines: list[str], told: str) -> None:
    path = _list(tmp_path, *lines)
    with pytest.raises(UserError) as caught:
        listed(MemorySource(2, 2), path)
    assert told.format(path=path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_is_no_list_is_refused(tmp_path: Path) -> None:
    source, path = MemorySource(1, 1), tmp_path / "keep.csv"
    with pytest.raises(UserError, match=r"expected a list of images at .*, found .*No such file"):
        listed(source, path)
    path.write_bytes(b"")
    with pytest.raises(UserError, match="found an empty file"):
        listed(source, path)
    path.write_bytes(b"\xff\xd8\xff\xe0 picture \x80")
    with pytest.raises(UserError, match="expected a list of images at"):
        listed(source, path)
    path.write_bytes(b"image,identity\n" + b"a" * 200_000 + b",b\n")  # beyond the reader's limit of a field
    with pytest.raises(UserError, match="field larger than field limit"):
        listed(source, path)
