"""Which photos are found and what their faces are called."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxylesskd.errors import UserError
from proxylesskd.photos.plan import plan


def make(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")
    return root


def test_folders_flat_and_nested(tmp_path: Path) -> None:
    photos = make(tmp_path / "in", "b/2.JPG", "b/1.png", "a/x/y.webp", "flat.jpeg", "a/notes.txt", "c/z.heic")
    listed = plan(photos, tmp_path / "out", ".jpg")
    assert [(p.path, p.target) for p in listed] == [
        ("a/x/y.webp", "a/x/y.jpg"),
        ("b/1.png", "b/1.jpg"),
        ("b/2.JPG", "b/2.jpg"),
        ("c/z.heic", "c/z.jpg"),
        ("flat.jpeg", "flat.jpg"),
    ]


def test_hidden_files_and_folders_are_passed_over(tmp_path: Path) -> None:
    photos = make(tmp_path / "in", "a/1.jpg", "a/._1.jpg", ".trash/2.jpg")
    assert [p.path for p in plan(photos, tmp_path / "out", ".jpg")] == ["a/1.jpg"]


def test_names_that_differ_by_suffix_keep_it(tmp_path: Path) -> None:
    photos = make(tmp_path / "in", "a/1.jpg", "a/1.png", "a/2.png")
    assert [p.target for p in plan(photos, tmp_path / "out", ".png")] == ["a/1.jpg.png", "a/1.png.png", "a/2.png"]


def test_links_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    photos = make(tmp_path / "in", "a/1.jpg")
    (photos / "a" / "again").symlink_to(photos)
    other = make(tmp_path / "other", "2.jpg")
    (photos / "b").symlink_to(other)
    assert [p.path for p in plan(photos, tmp_path / "out", ".jpg")] == ["a/1.jpg", "b/2.jpg"]


def test_what_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="found none at"):
        plan(tmp_path / "missing", tmp_path / "out", ".jpg")
    empty = make(tmp_path / "empty", "notes.txt")
    with pytest.raises(UserError, match=r"found none$"):
        plan(empty, tmp_path / "out", ".jpg")
    photos = make(tmp_path / "in", "a/1.jpg")
    for out in (photos, photos / "a" / "faces", tmp_path / "out" / ".." / "in"):
        with pytest.raises(UserError, match="outside the folder of the photos"):
            plan(photos, out, ".jpg")


def test_names_that_cannot_both_be(tmp_path: Path) -> None:
    photos = make(tmp_path / "in", "a.jpg", "a.png", "a.jpg.webp")
    with pytest.raises(UserError, match=r"'a\.jpg' and 'a\.jpg\.webp'"):
        plan(photos, tmp_path / "out", ".jpg")
    own = make(tmp_path / "own", "align.jpg")
    with pytest.raises(UserError, match=r"rename it"):
        plan(own, tmp_path / "out", ".png", frozenset(["align.png"]))
