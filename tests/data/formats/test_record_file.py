"""RecordIO, against bytes laid out by hand from the published format."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxylesskd.data.formats.record_file import Record, RecordFile, pack
from proxylesskd.errors import CorruptImageError

MAGIC = struct.pack("<I", 0xCED7230A)


def part(kind: int, body: bytes) -> bytes:
    return MAGIC + struct.pack("<I", (kind << 29) | len(body)) + body + b"\0" * ((4 - len(body) % 4) % 4)


def head(flag: int, label: float, key: int = 0) -> bytes:
    return struct.pack("<IfQQ", flag, label, key, 0)


def opened(tmp_path: Path, data: bytes) -> RecordFile:
    (tmp_path / "a.rec").write_bytes(data)
    return RecordFile(tmp_path / "a.rec")


def test_a_plain_record_and_the_next_one(tmp_path: Path) -> None:
    first = part(0, head(0, 7.0) + b"abcde")
    file = opened(tmp_path, first + part(0, head(0, 8.0) + b"fgh"))
    assert file.record(0) == Record((7.0,), b"abcde")
    assert file.record(len(first)) == Record((8.0,), b"fgh")


def test_labels_that_follow_the_header(tmp_path: Path) -> None:
    file = opened(tmp_path, part(0, head(3, 0.0) + struct.pack("<3f", 5, 0.25, -1) + b"image"))
    assert file.record(0) == Record((5.0, 0.25, -1.0), b"image")


def test_a_record_in_parts_gets_its_magic_back(tmp_path: Path) -> None:
    body = head(0, 1.0) + b"abcd"
    file = opened(tmp_path, part(1, body) + part(2, b"efgh") + part(2, b"") + part(3, b"xyz"))
    assert file.record(0).image == b"abcd" + MAGIC + b"efgh" + MAGIC + MAGIC + b"xyz"


def test_pack_writes_the_published_bytes() -> None:
    assert pack([3.0], 9, b"abc") == part(0, head(0, 3.0, 9) + b"abc")
    assert pack([1.0, 2.0], 9, b"") == part(0, head(2, 0.0, 9) + struct.pack("<2f", 1, 2))
    image = b"abcd" + MAGIC + b"e" + MAGIC + b"fg"  # the second magic is not at a multiple of 4 bytes
    assert pack([3.0], 9, image) == part(1, head(0, 3.0, 9) + b"abcd") + part(3, b"e" + MAGIC + b"fg")
    assert pack([3.0], 9, MAGIC) == part(1, head(0, 3.0, 9)) + part(3, b"")


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.sampled_from([MAGIC, MAGIC[:2], MAGIC[2:], b"a", b"bcd", bytes(4)]), max_size=12),
    st.lists(st.integers(0, 1000).map(float), min_size=1, max_size=4),
)
def test_what_is_packed_reads_back(
    tmp_path_factory: pytest.TempPathFactory, pieces: list[bytes], labels: list[float]
) -> None:
    image = b"".join(pieces)
    packed = pack(labels, 1, image)
    assert len(packed) % 4 == 0
    file = opened(tmp_path_factory.mktemp("rec"), packed + pack([0.0], 2, b"next"))
    assert file.record(0) == Record(tuple(labels), image)
    assert file.record(len(packed)).image == b"next"
    heads = file.heads(np.array([0, len(packed)]))
    assert heads.first.tolist() == [labels[0], 0.0]
    assert heads.second.tolist() == [[*labels, 0.0][1], 0.0]
    assert heads.image.tolist() == [bool(image), True]


def test_heads_of_the_smallest_last_record(tmp_path: Path) -> None:
    file = opened(tmp_path, part(0, head(0, 4.0)))
    heads = file.heads(np.array([0]))
    assert (heads.first[0], heads.second[0], heads.image[0]) == (4.0, 0.0, False)


WHOLE = part(0, head(0, 1.0) + b"image")


@pytest.mark.parametrize(
    ("data", "offset", "found"),
    [
        (WHOLE, 4, "no RecordIO magic at byte 4"),
        (WHOLE, 1000, "a file of 40 bytes"),
        (WHOLE[:-5], 0, "the end of the file at byte 35"),
        (b"", 0, "a file of 0 bytes"),
        (part(0, b"short"), 0, "5 bytes, too few for its header"),
        (part(0, head(9, 0.0) + b"abcd"), 0, "counts 9 labels"),
        (part(0, head(2**32 - 1, 0.0) + b"abcd"), 0, "counts 4294967295 labels"),
        (part(1, head(0, 1.0)) + WHOLE, 0, "a part of kind 0"),
        (part(2, head(0, 1.0)), 0, "a part of kind 2"),
        (part(1, head(0, 1.0)) + part(1, b""), 0, "a part of kind 1"),
        (part(1, head(0, 1.0)), 0, "the end of the file"),
        (MAGIC + struct.pack("<I", (1 << 29) - 1) + bytes(100), 0, "a length of 536870911 bytes"),
    ],
)
def test_damage_is_located(tmp_path: Path, data: bytes, offset: int, found: str) -> None:
    with pytest.raises(CorruptImageError, match=rf"a\.rec' at byte {offset}, found .*{found}"):
        opened(tmp_path, data).record(offset)


@pytest.mark.parametrize(
    ("offset", "found"), [(-4, "end of the file"), (2**62, "end of the file"), (4, "no RecordIO magic")]
)
def test_heads_at_wrong_offsets_are_refused(tmp_path: Path, offset: int, found: str) -> None:
    with pytest.raises(CorruptImageError, match=f"at byte {offset}, found .*{found}"):
        opened(tmp_path, WHOLE * 2).heads(np.array([0, offset]))
