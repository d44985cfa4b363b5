"""Folders of faces, laid out by hand."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from proxylesskd.data.formats import folder as module
from proxylesskd.data.formats.folder import FolderSource, image_suffix, write_folder
from proxylesskd.data.formats.written import Written
from proxylesskd.data.source import open_source
from proxylesskd.errors import CorruptImageError, UserError
from tests.faces import MemorySource, write_faces


def lay_out(root: Path, *paths: str) -> Path:
    for path in paths:
        target = root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.encode())
    return root


def test_labels_follow_sorted_folders_and_images_sorted_names(tmp_path: Path) -> None:
    lay_out(tmp_path, "zoe/2.PNG", "zoe/10.jpg", "ann/b.webp", "ann/a.jpeg", "bob/x.bmp", "ann/notes.txt", "readme.md")
    source = FolderSource(tmp_path)
    assert source.identities == ["ann", "bob", "zoe"]
    assert source.labels.tolist() == [0, 0, 1, 2, 2]
    assert source.labels.dtype == np.int64
    assert [source.name(i) for i in range(len(source))] == [
        "ann/a.jpeg", "ann/b.webp", "bob/x.bmp", "zoe/10.jpg", "zoe/2.PNG",
    ]  # fmt: skip
    assert source.read(3) == (b"zoe/10.jpg", 2)


def test_labels_cannot_be_changed_by_accident(tmp_path: Path) -> None:
    source = FolderSource(lay_out(tmp_path, "a/1.jpg"))
    with pytest.raises(ValueError, match="read-only"):
        source.labels[0] = 1


def test_hidden_files_and_folders_are_passed_over(tmp_path: Path) -> None:
    source = FolderSource(lay_out(tmp_path, ".git/x.jpg", "a/._1.jpg", "a/1.jpg"))
    assert source.identities == ["a"]
    assert len(source) == 1


@pytest.mark.parametrize("opener", [FolderSource, lambda p: open_source(f"folder:{p}"), lambda p: open_source(str(p))])
def test_a_missing_folder_is_named(tmp_path: Path, opener: object) -> None:
    with pytest.raises(UserError, match=r"expected a folder of faces.*nowhere"):
        opener(tmp_path / "nowhere")  # type: ignore[operator]


def test_an_identity_without_images_is_named(tmp_path: Path) -> None:
    lay_out(tmp_path, "ann/1.jpg", "bob/readme.txt")
    with pytest.raises(UserError, match=r"identity folder '.*bob', found none; remove the folder or put images"):
        FolderSource(tmp_path)


def test_images_too_deep_are_explained(tmp_path: Path) -> None:
    lay_out(tmp_path, "train/ann/1.jpg")
    with pytest.raises(UserError, match="only further folders"):
        FolderSource(tmp_path)


def test_images_without_folders_are_explained(tmp_path: Path) -> None:
    lay_out(tmp_path, "1.jpg", "2.jpg")
    with pytest.raises(UserError, match="found 2 images side by side"):
        FolderSource(tmp_path)


def test_an_empty_folder_is_explained(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no folders and no images"):
        FolderSource(tmp_path)


def test_a_folder_name_that_is_no_utf8_is_refused(tmp_path: Path) -> None:
    lay_out(tmp_path, "ann/1.jpg")
    (tmp_path / "ann").rename(tmp_path / os.fsdecode(b"caf\xe9"))
    with pytest.raises(UserError, match=r"UTF-8.*rename"):
        FolderSource(tmp_path)


def test_a_vanished_image_counts_as_corrupt(tmp_path: Path) -> None:
    source = FolderSource(lay_out(tmp_path, "a/1.jpg"))
    (tmp_path / "a/1.jpg").unlink()
    with pytest.raises(CorruptImageError, match="No such file"):
        source.read(0)


def test_a_huge_file_is_not_read(tmp_path: Path) -> None:
    source = FolderSource(lay_out(tmp_path, "a/1.jpg"))
    with (tmp_path / "a/1.jpg").open("r+b") as file:
        file.truncate(module.MAX_IMAGE_BYTES + 1)
    with pytest.raises(CorruptImageError, match="below 64 MiB"):
        source.read(0)


def test_a_folder_is_written_and_read_back(tmp_path: Path) -> None:
    faces = MemorySource(4, 3)
    faces.identities = ["b", "a/../x", "10", "9"]
    assert write_folder(faces, tmp_path / "out") == Written(12, {})
    back = FolderSource(tmp_path / "out")
    assert list(back.identities) == faces.identities
    assert [back.read(i) for i in range(12)] == [faces.read(i) for i in range(12)]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]
    assert (tmp_path / "out" / "b" / "002.jpg").read_bytes() == faces.read(2)[0]
    assert back.name(3) == "a%2F..%2Fx/000.jpg"
    assert (tmp_path / "out" / back.name(3)).is_file()


def test_suffixes_by_content_and_gaps_where_an_image_is_corrupt(tmp_path: Path) -> None:
    source = FolderSource(write_faces(tmp_path / "in", 2, 3))
    (tmp_path / "in/id-000/001.jpg").unlink()
    (tmp_path / "in/id-000/002.jpg").write_bytes(b"\x89PNG and so on")
    for name in ("000", "001", "002"):
        (tmp_path / "in/id-001" / f"{name}.jpg").unlink()
    written = write_folder(source, tmp_path / "out")
    assert written.images == 2
    assert set(written.skipped) == {1, 3, 4, 5}
    assert written.skipped[1].startswith("id-000/001.jpg: expected a readable image file")
    assert sorted(str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("*.*")) == [
        "id-000/000.jpg",
        "id-000/002.png",
    ]
    assert FolderSource(tmp_path / "out").identities == ["id-000"]


@pytest.mark.parametrize(
    ("start", "suffix"),
    [(b"\xff\xd8\xff", ".jpg"), (b"\x89PNG\r", ".png"), (b"BM12", ".bmp"), (b"RIFF1234WEBP", ".webp"), (b"", ".jpg")],
)
def test_suffixes(start: bytes, suffix: str) -> None:
    assert image_suffix(start) == suffix
