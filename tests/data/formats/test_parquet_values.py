"""Single byte strings of files that pyarrow wrote, in every way it can, against pyarrow's own reading."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from proxylesskd.data.formats import parquet_values
from proxylesskd.data.formats.parquet_decode import hybrid, plain
from proxylesskd.data.formats.parquet_file import Labels, open_part
from proxylesskd.data.formats.parquet_values import BytesColumn
from proxylesskd.data.formats.thrift import CutOff, Damaged
from proxylesskd.errors import CorruptImageError

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")


def some(count: int, nulls: bool, kinds: int, seed: int = 0) -> list[bytes | None]:
    """Byte strings of 0 to 3000 bytes; the few kinds make pyarrow keep to its dictionary."""
    random = np.random.default_rng(seed)
    words = [random.bytes(int(random.integers(0, 3000))) for _ in range(kinds)]
    chosen: list[bytes | None] = [words[i] for i in random.integers(0, kinds, count)]
    return [None if nulls and random.random() < 0.3 else word for word in chosen]


def write(path: Path, values: list[bytes | None], nullable: bool = True, **options: Any) -> Path:
    schema = pa.schema([pa.field("image", pa.binary(), nullable), ("label", pa.int64())])
    table = pa.table({"image": values, "label": [0] * len(values)}, schema=schema)
    pq.write_table(table, path, **{"row_group_size": 97, **options})
    return path


def column(path: Path) -> tuple[BytesColumn, list[int]]:
    part = open_part(path, Labels(), None, None)
    return BytesColumn(part.chunks), [chunk.rows for chunk in part.chunks]


def read_all(path: Path) -> list[bytes | None]:
    opened, rows = column(path)
    places = [(group, row) for group, count in enumerate(rows) for row in range(count)]
    found: dict[tuple[int, int], bytes | None] = {}
    for at in np.random.default_rng(1).permutation(len(places)).tolist():
        found[places[at]] = opened.read(*places[at])
    return [found[place] for place in places]


@pytest.mark.parametrize("codec", ["NONE", "snappy", "gzip", "brotli", "zstd", "lz4"])
@pytest.mark.parametrize("version", ["1.0", "2.0"])
@pytest.mark.parametrize("nulls", [False, True])
@pytest.mark.parametrize("dictionary", [False, True])
def test_reads_what_pyarrow_wrote(tmp_path: Path, codec: str, version: str, nulls: bool, dictionary: bool) -> None:
    values = some(250, nulls, kinds=40 if dictionary else 200)
    path = write(
        tmp_path / "f.parquet",
        values,
        nullable=nulls,
        compression=codec,
        data_page_version=version,
        use_dictionary=dictionary,
        data_page_size=4096,
        write_batch_size=8,
    )
    assert read_all(path) == pq.read_table(path).column("image").to_pylist() == values


def test_a_dictionary_that_grew_too_large_is_left_for_plain_pages(tmp_path: Path) -> None:
    values = some(400, True, kinds=400)
    path = write(tmp_path / "f.parquet", values, row_group_size=400, dictionary_pagesize_limit=50_000)
    encodings = pq.ParquetFile(path).metadata.row_group(0).column(0).encodings
    assert {"PLAIN", "RLE_DICTIONARY"} <= set(encodings)
    assert read_all(path) == values


def test_a_row_group_of_all_images_is_read_a_page_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = some(3000, False, kinds=3000)
    path = write(tmp_path / "f.parquet", values, row_group_size=3000, use_dictionary=False, data_page_size=10_000)
    opened, _ = column(path)
    taken: list[int] = []

    def counting(path: Path, start: int, count: int) -> bytes:
        taken.append(count)
        return take(path, start, count)

    take = parquet_values.take
    monkeypatch.setattr(parquet_values, "take", counting)
    assert opened.read(0, 2900) == values[2900]
    assert sum(taken) < path.stat().st_size / 2


def test_an_image_that_is_not_compressed_is_read_alone(tmp_path: Path) -> None:
    values = some(500, False, kinds=500)
    path = write(tmp_path / "f.parquet", values, compression="NONE", use_dictionary=False)
    opened, _ = column(path)
    for group in range(5):
        opened.read(group, 0)
    assert opened._pages.held < 500 * 20
    with path.open("r+b") as file:
        place = path.read_bytes().index(values[3] or b"")
        file.seek(place)
        file.write(b"fresh")
    assert (opened.read(0, 3) or b"")[:5] == b"fresh"


def test_threads_share_a_small_cache(tmp_path: Path) -> None:
    values = some(1000, True, kinds=50)
    path = write(tmp_path / "f.parquet", values, compression="zstd", data_page_size=4096, write_batch_size=8)
    part = open_part(path, Labels(), None, None)
    opened = BytesColumn(part.chunks, cache=100_000)
    order = np.random.default_rng(2).integers(0, 1000, 800).tolist()
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda i: opened.read(i // 97, i % 97), order))
    assert found == [values[i] for i in order]
    assert opened._pages.held <= 75_000


def test_damaged_pages_are_corrupt_images(tmp_path: Path) -> None:
    values = some(300, False, kinds=300)
    path = write(tmp_path / "f.parquet", values, compression="zstd", use_dictionary=False)
    opened, _ = column(path)
    start = opened._chunks[1].start
    data = bytearray(path.read_bytes())
    data[start : start + 400] = bytes(range(200)) * 2
    path.write_bytes(data)
    assert opened.read(0, 5) == values[5]
    with pytest.raises(CorruptImageError, match=f"page of values in .* at byte {start}"):
        opened.read(1, 5)
    path.unlink()
    with pytest.raises(CorruptImageError, match="No such file"):
        opened.read(2, 0)


@pytest.mark.parametrize("width", [1, 2, 3, 7, 8, 9, 17, 32])
def test_hybrid_reads_runs_and_packed_numbers(width: int) -> None:
    random = np.random.default_rng(width)
    numbers = random.integers(0, 2**width, 24).tolist()
    packed = sum(number << (place * width) for place, number in enumerate(numbers)).to_bytes(3 * width, "little")
    run = random.integers(0, 2**width).item()
    data = bytes([3 << 1 | 1]) + packed + bytes([200 | 0x80, 1]) + run.to_bytes((width + 7) // 8, "little")
    assert hybrid(data, width, 24 + 50).tolist() == numbers + [run] * 50
    assert hybrid(data, width, 24 + 100).tolist() == numbers + [run] * 100
    with pytest.raises(CutOff):
        hybrid(data, width, 24 + 101)
    with pytest.raises(CutOff):
        hybrid(data[: 2 * width], width, 24)
    with pytest.raises(CutOff):
        hybrid(data[: 1 + 3 * width + 2], width, 25)


def test_hybrid_refuses_what_makes_no_headway() -> None:
    with pytest.raises(Damaged, match="run of nothing"):
        hybrid(bytes(100), 3, 10)
    with pytest.raises(Damaged, match="33 bits"):
        hybrid(bytes(100), 33, 10)
    assert hybrid(bytes([20]), 0, 10).tolist() == [0] * 10


def test_plain_never_looks_beyond_the_page() -> None:
    data = b"\x02\x00\x00\x00ab\x00\x00\x00\x00\x09\x00\x00\x00abc"
    starts, lengths = plain(data, 0, 2)
    assert [data[s : s + n] for s, n in zip(starts, lengths, strict=True)] == [b"ab", b""]
    for count in (3, 4):
        with pytest.raises(CutOff):
            plain(data, 0, count)
    with pytest.raises(CutOff):
        plain(data[:8], 0, 2)
