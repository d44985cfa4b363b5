"""From every format to every other one, and what a conversion refuses."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from proxylesskd.data.convert import WRITERS, bare_target, convert, split_target
from proxylesskd.data.source import Source, open_source
from proxylesskd.errors import CorruptImageError, UserError
from tests.faces import MemorySource, write_faces

for package in ("pyarrow", "lmdb"):
    pytest.importorskip(package)

NAMES = ['Ärger, "quoted"', "a b", "007", "nobody", "x.y-z"]
COUNTS = [3, 1, 4, 0, 2]
KEEPS_NAMES = [scheme for scheme in WRITERS if scheme != "rec"]


class Mixed:
    """Images of several kinds and sizes, in no order, of which one identity has none."""

    def __init__(self) -> None:
        self.identities = list(NAMES)
        labels = np.repeat(np.arange(len(NAMES)), COUNTS)
        self.labels = np.random.default_rng(3).permutation(labels).astype(np.int64)

    def __len__(self) -> int:
        return len(self.labels)

    def read(self, index: int) -> tuple[bytes, int]:
        buffer = io.BytesIO()
        kind = ("JPEG", "PNG", "WEBP", "BMP")[index % 4]
        Image.new("RGB", (8 + index, 9), (index, 255 - index, 7)).save(buffer, kind)
        return buffer.getvalue(), int(self.labels[index])

    def name(self, index: int) -> str:
        return f"image {index}"


def content(source: Source) -> list[tuple[str, bytes]]:
    """Every image under the name of its identity, in the order of the source."""
    found = []
    for index in range(len(source)):
        data, label = source.read(index)
        assert label == source.labels[index]
        found.append((source.identities[label], data))
    return found


def wanted() -> list[tuple[str, bytes]]:
    """What every format should hold: identity by identity, by plain loops."""
    source = Mixed()
    grouped = [[source.read(i)[0] for i in range(len(source)) if source.labels[i] == label] for label in range(5)]
    return [(NAMES[label], data) for label, images in enumerate(grouped) for data in images]


@pytest.mark.parametrize("first", WRITERS)
@pytest.mark.parametrize("second", WRITERS)
def test_between_all_pairs_of_formats(tmp_path: Path, first: str, second: str) -> None:
    assert convert(Mixed(), f"{first}:{tmp_path / 'a'}").images == 10
    told: list[tuple[int, int]] = []
    written = convert(f"{first}:{tmp_path / 'a'}", f"{second}:{tmp_path / 'b'}", progress=lambda *now: told.append(now))
    assert (written.images, written.skipped) == (10, {})
    assert told[-1] == (10, 10)
    found = open_source(f"{second}:{tmp_path / 'b'}")
    assert [data for _, data in content(found)] == [data for _, data in wanted()]
    assert np.bincount(found.labels).tolist() == [count for count in COUNTS if count]
    assert np.all(np.diff(found.labels) >= 0)
    if first in KEEPS_NAMES and second in KEEPS_NAMES:
        assert content(found) == wanted()
        assert list(found.identities) == [name for name, count in zip(NAMES, COUNTS, strict=True) if count]


@pytest.mark.parametrize("scheme", WRITERS)
def test_there_and_back_is_the_same_file(tmp_path: Path, scheme: str) -> None:
    """What was written once is a fixed point: its own conversion is the same bytes on disk."""
    convert(MemorySource(3, 2), f"{scheme}:{tmp_path / 'a'}")
    convert(f"{scheme}:{tmp_path / 'a'}", f"{scheme}:{tmp_path / 'b'}")
    first, second = ({p.name: p.read_bytes() for p in sorted((tmp_path / n).rglob("*")) if p.is_file()} for n in "ab")
    assert {k: v for k, v in first.items() if not k.startswith(".")} == {
        k: v for k, v in second.items() if not k.startswith(".")
    }


class Gaps(MemorySource):
    def read(self, index: int) -> tuple[bytes, int]:
        if index in (1, 2, 3, 6):
            raise CorruptImageError("gone")
        return super().read(index)


@pytest.mark.parametrize("scheme", WRITERS)
def test_unreadable_images_are_left_out_and_told(tmp_path: Path, scheme: str) -> None:
    faces = Gaps(4, 2)  # the second identity loses both images
    written = convert(faces, f"{scheme}:{tmp_path / 'a'}")
    assert written.images == 4
    assert written.skipped == {i: f"image {i}: gone" for i in (1, 2, 3, 6)}
    found = open_source(f"{scheme}:{tmp_path / 'a'}")
    assert [data for _, data in content(found)] == [faces._data[i] for i in (0, 4, 5, 7)]
    assert found.labels.tolist() == [0, 1, 1, 2]


def test_overwriting_replaces_a_set_of_the_same_format_alone(tmp_path: Path) -> None:
    out = tmp_path / "set"
    convert(MemorySource(2, 2), f"wds:{out}")
    with pytest.raises(UserError, match="expected nothing yet"):
        convert(MemorySource(3, 1), f"wds:{out}")
    with pytest.raises(UserError, match="expected a set to replace"):
        convert(MemorySource(3, 1), f"lmdb:{out}", overwrite=True)
    assert len(open_source(f"wds:{out}")) == 4
    convert(MemorySource(3, 1), f"wds:{out}", overwrite=True)
    assert len(open_source(f"wds:{out}")) == 3
    assert [path.name for path in tmp_path.iterdir()] == ["set"]
    (tmp_path / "link").symlink_to(out)
    with pytest.raises(UserError, match="found a file or a link"):
        convert(MemorySource(3, 1), f"wds:{tmp_path / 'link'}", overwrite=True)


def test_source_and_target_lie_apart(tmp_path: Path) -> None:
    folder = write_faces(tmp_path / "faces", 2, 2)
    for out in (folder, folder / "new", tmp_path):
        with pytest.raises(UserError, match="expected a place apart from the source"):
            convert(f"folder:{folder}", f"rec:{out}")
    assert len(open_source(str(folder))) == 4


@pytest.mark.parametrize("out", ["recc:x", "somewhere", "rec:", "synthetic:x", ""])
def test_targets_that_are_none(out: str) -> None:
    with pytest.raises(UserError, match="expected where to write as folder:OUT, rec:OUT"):
        split_target(out)


def test_a_bare_target_is_rec() -> None:
    assert bare_target("faces") == "rec:faces"
    assert bare_target("wds:faces") == "wds:faces"
    assert bare_target("faces.parquet") == "faces.parquet"
    assert split_target("lmdb:a:b") == ("lmdb", Path("a:b"))
