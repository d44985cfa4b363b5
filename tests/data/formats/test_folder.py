"""Folders of faces, laid out by hand."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from proxylesskd.data.formats import folder as module
from proxylesskd.data.formats.folder import FolderSource
from proxylesskd.data.source import open_source
from proxylesskd.errors import CorruptImageError, UserError


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
