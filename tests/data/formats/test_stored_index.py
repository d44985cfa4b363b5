"""Indices kept beside their sets."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from proxylesskd.data.formats.stored_index import load_index, store_index

ARRAYS = {"a": np.arange(5), "b": np.frombuffer(b"text", np.uint8)}


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "set").mkdir()
    paths = [tmp_path / "set" / name for name in ("x.tar", "y.tar")]
    for path in paths:
        path.write_bytes(b"content")
    return paths


def test_what_is_stored_is_loaded(files: list[Path]) -> None:
    assert load_index(files) is None
    place = store_index(files, ARRAYS)
    assert place is not None
    assert place.parent == files[0].parent
    found = load_index(files)
    assert found is not None
    assert {name: found[name].tolist() for name in found} == {name: ARRAYS[name].tolist() for name in ARRAYS}
    assert load_index(files[:1]) is None
    assert list(files[0].parent.glob(".*")) == [place]


@pytest.mark.parametrize("change", ["size", "time", "name"])
def test_a_change_makes_it_worthless(files: list[Path], change: str) -> None:
    store_index(files, ARRAYS)
    if change == "size":
        state = files[1].stat()
        files[1].write_bytes(b"longer content")
        os.utime(files[1], ns=(state.st_atime_ns, state.st_mtime_ns))
    elif change == "time":
        os.utime(files[1], (1, 1))
    else:
        files[1] = files[1].rename(files[1].with_name("z.tar"))
    assert load_index(files) is None


def test_without_leave_beside_it_lies_in_the_cache(
    files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    beside = store_index(files, ARRAYS)
    assert beside is not None
    beside.unlink()
    beside.mkdir()  # nobody can replace a folder by a file
    place = store_index(files, ARRAYS)
    assert place is not None
    assert place.is_relative_to(tmp_path / "cache" / "proxylesskd")
    assert load_index(files) is not None
    place.unlink()
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert store_index(files, ARRAYS) is None
    assert load_index(files) is None


@pytest.mark.parametrize("content", [b"", b"\xff" * 100, b"\x08\0\0\0\0\0\0\0{      }"])
def test_a_damaged_one_is_none(files: list[Path], content: bytes) -> None:
    place = store_index(files, ARRAYS)
    assert place is not None
    place.write_bytes(content)
    assert load_index(files) is None
