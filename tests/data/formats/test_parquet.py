"""Parquet as the Hugging Face hub keeps it: files by pyarrow alone, labels of every kind, and what is refused."""

from __future__ import annotations

import json
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from proxylesskd.data.formats import parquet
from proxylesskd.data.formats.parquet import ParquetSource, write_parquet
from proxylesskd.data.source import open_source
from proxylesskd.errors import CorruptImageError, UserError
from tests.faces import MemorySource

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")
IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def images(count: int, first: int = 0) -> list[dict[str, Any]]:
    return [{"bytes": f"image {i}".encode() * 20, "path": f"{i}.jpg"} for i in range(first, first + count)]


def hub_metadata(names: list[str] | None, **others: dict[str, Any]) -> dict[str, str]:
    """What the datasets library writes into the metadata of a schema."""
    features: dict[str, Any] = {"image": {"_type": "Image"}, **others}
    if names is not None:
        features["label"] = {"names": names, "_type": "ClassLabel"}
    return {"huggingface": json.dumps({"info": {"features": features}})}


def hub_file(path: Path, labels: list[int], names: list[str] | None, first: int = 0, **extra: Any) -> Path:
    fields = [("image", IMAGE), ("label", pa.int64()), *((name, kind) for name, (kind, _) in extra.items())]
    schema = pa.schema(fields, metadata=hub_metadata(names))
    columns = {"image": images(len(labels), first), "label": labels, **{name: v for name, (_, v) in extra.items()}}
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns, schema=schema), path, row_group_size=100)
    return path


def assert_reads(source: ParquetSource, wanted: list[dict[str, Any]], who: list[str]) -> None:
    assert len(source) == len(wanted)
    for index in np.random.default_rng(0).permutation(len(wanted)).tolist():
        data, label = source.read(index)
        assert data == wanted[index]["bytes"]
        assert source.identities[label] == who[index]
        assert label == source.labels[index]


def test_reads_a_file_of_the_hub(tmp_path: Path) -> None:
    names = ["zoe", "adam", "nobody", "eve"]
    labels = np.random.default_rng(3).choice([0, 1, 3], 250).tolist()
    path = hub_file(tmp_path / "faces.parquet", labels, names, width=(pa.int32(), [112] * 250))
    source = ParquetSource(str(path))
    assert source.identities == ["zoe", "adam", "eve"]
    assert_reads(source, images(250), [names[label] for label in labels])
    assert source.name(123) == "faces.parquet:123"
    assert source.labels.dtype == np.int64
    assert not source.labels.flags.writeable


def test_several_files_and_empty_ones_are_one_source(tmp_path: Path) -> None:
    names = [f"p{i}" for i in range(9)]
    labels = np.random.default_rng(4).integers(0, 9, 330).tolist()
    edges = [0, 0, 110, 110, 330, 330]
    for number, (a, b) in enumerate(pairwise(edges)):
        hub_file(tmp_path / f"train-{number:05d}-of-00005.parquet", labels[a:b], names, first=a)
    for where in (tmp_path, tmp_path / "train-*.parquet", f"{tmp_path}/**/*.parquet"):
        source = open_source(f"parquet:{where}")
        assert_reads(source, images(330), [names[label] for label in labels])
    assert source.name(111) == "train-00003-of-00005.parquet:1"


def test_files_of_the_same_name_are_told_apart(tmp_path: Path) -> None:
    for place in ("a", "b"):
        hub_file(tmp_path / place / "data.parquet", [0, 1], ["x", "y"])
    source = ParquetSource(str(tmp_path))
    assert source.name(3) == f"{tmp_path}/b/data.parquet:1"


@pytest.mark.parametrize("kind", [pa.int8(), pa.uint32(), pa.int64()])
def test_numbers_without_names_are_their_own_names_and_gaps_close(tmp_path: Path, kind: Any) -> None:
    labels = [100, 7, 9, 7]
    table = pa.table(
        {"photo": images(4), "who": pa.array(labels, kind)}, schema=pa.schema([("photo", IMAGE), ("who", kind)])
    )
    pq.write_table(table, tmp_path / "f.parquet")
    source = ParquetSource(str(tmp_path / "f.parquet"))
    assert source.identities == ["7", "9", "100"]
    assert source.labels.tolist() == [2, 0, 1, 0]


@pytest.mark.parametrize("text", [pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())])
@pytest.mark.parametrize(
    "image", [pa.binary(), pa.large_binary(), pa.struct([("path", pa.string()), ("bytes", pa.large_binary())])]
)
def test_names_as_text_are_sorted(tmp_path: Path, text: Any, image: Any) -> None:
    who = np.random.default_rng(5).choice(["Zoë", "adam", "Eve", "李"], 230).tolist()
    data = images(230) if pa.types.is_struct(image) else [i["bytes"] for i in images(230)]
    table = pa.table({"face": pa.array(data, image), "person": pa.array(who, text)})
    for number, rows in enumerate((slice(0, 130), slice(130, 230))):
        pq.write_table(
            table.slice(rows.start, rows.stop - rows.start), tmp_path / f"{number}.parquet", row_group_size=50
        )
    source = ParquetSource(str(tmp_path))
    assert source.identities == ["Eve", "Zoë", "adam", "李"]
    assert_reads(source, images(230), who)


def test_words_that_no_row_uses_are_no_identities(tmp_path: Path) -> None:
    words = pa.DictionaryArray.from_arrays(pa.array([3, 1, 3], pa.int32()), ["a", "b", "c", "d"])
    pq.write_table(pa.table({"image": [b"x"] * 3, "who": words}), tmp_path / "f.parquet")
    source = ParquetSource(str(tmp_path / "f.parquet"))
    assert source.identities == ["b", "d"]
    assert source.labels.tolist() == [1, 0, 1]


@pytest.mark.parametrize("kind", [pa.int8(), pa.uint16(), pa.int32(), pa.int64(), pa.string()])
@pytest.mark.parametrize("dictionary", [False, True])
@pytest.mark.parametrize("version", ["1.0", "2.0"])
def test_labels_of_every_type_in_many_pages(tmp_path: Path, kind: Any, dictionary: bool, version: str) -> None:
    numbers = np.repeat(np.random.default_rng(8).integers(0, 100, 300), np.random.default_rng(9).integers(1, 20, 300))
    labels = [f"p{n:03d}" if kind == pa.string() else n for n in numbers.tolist()]
    table = pa.table({"image": [b"x"] * len(labels), "label": pa.array(labels, kind)})
    options = {
        "use_dictionary": dictionary,
        "data_page_version": version,
        "data_page_size": 500,
        "write_batch_size": 64,
    }
    pq.write_table(table, tmp_path / "f.parquet", row_group_size=1100, **options)
    source = ParquetSource(str(tmp_path / "f.parquet"))
    assert [source.identities[label] for label in source.labels] == [str(label) for label in labels]


def test_columns_are_chosen_by_type_by_mark_or_by_the_user(tmp_path: Path) -> None:
    path = tmp_path / "f.parquet"
    columns = {"a": [b"A0", b"A1"], "b": [b"B0", b"B1"], "age": [30, 40], "who": ["x", "y"]}
    pq.write_table(pa.table(columns), path)
    with pytest.raises(UserError, match=r"one column of images in .* found a, b; choose by \?image=a"):
        ParquetSource(str(path))
    with pytest.raises(UserError, match=r"one column of labels in .* found age, who; choose by \?label=age"):
        open_source(f"parquet:{path}?image=b")
    chosen = open_source(f"parquet:{path}?image=b&label=who")
    assert chosen.read(1) == (b"B1", 1)
    assert chosen.identities == ["x", "y"]
    with pytest.raises(UserError, match=r"named 'agee' in .* found age, who; did you mean 'age'"):
        open_source(f"parquet:{path}?image=b&label=agee")
    with pytest.raises(UserError, match=r"expected options image, label .* found 'lable'; did you mean 'label'"):
        open_source(f"parquet:{path}?lable=who")
    marks = {"b": {"_type": "Image"}, "age": {"_type": "ClassLabel"}}
    marked = pa.table(columns).replace_schema_metadata(hub_metadata(None, **marks))
    pq.write_table(marked, path)
    assert ParquetSource(str(path)).read(1) == (b"B1", 1)
    pq.write_table(pa.table({"who": ["x"]}), path)
    with pytest.raises(UserError, match=r"one column of images in .* found none"):
        ParquetSource(str(path))


def test_rows_without_bytes_are_corrupt_images_and_files_without_any_are_refused(tmp_path: Path) -> None:
    rows: list[Any] = [{"bytes": b"a", "path": None}, {"bytes": None, "path": "x.jpg"}, None]
    schema = pa.schema([("image", IMAGE), ("label", pa.int64())])
    path = tmp_path / "f.parquet"
    pq.write_table(pa.table({"image": rows, "label": [0, 0, 0]}, schema=schema), path)
    source = ParquetSource(str(path))
    assert source.read(0)[0] == b"a"
    for index in (1, 2):
        with pytest.raises(CorruptImageError, match=f"bytes of an image in f.parquet:{index}, found none"):
            source.read(index)
    pq.write_table(pa.table({"image": rows[1:], "label": [0, 0]}, schema=schema), path)
    with pytest.raises(UserError, match=r"found none in 'image', perhaps paths alone"):
        ParquetSource(str(path))


def write_raw(path: Path, labels: Any, names: list[str] | None = None, **options: Any) -> Path:
    table = pa.table({"image": pa.array([b"x"] * len(labels), pa.binary()), "label": labels})
    if names is not None:
        table = table.replace_schema_metadata(hub_metadata(names))
    pq.write_table(table, path, **options)
    return path


@pytest.mark.parametrize(
    ("labels", "names", "message"),
    [
        ([0, -1], None, "labels from 0 to 2147483647 .* found -1"),
        ([0, 2], ["a", "b"], "labels from 0 to 1 in .* found 2"),
        ([0, -1], ["a", "b"], "found -1"),
        ([0, None], None, "a label in every row of .* found 1 rows without"),
        (["a", None], None, "a label in every row of .* found 1 rows without"),
        (["a", ""], None, "names as labels in .* found one of 0 bytes"),
        (["a", "b" * 5000], None, "names as labels in .* found one of 5000 bytes"),
        ([0, 1], ["a", "a"], "each name of a label once"),
        ([0, 1], ["a", ""], "a list of names for the labels"),
        (pa.array([1, 2**63], pa.uint64()), None, "labels from 0 to"),
        (pa.array([], pa.int64()), None, "expected images in .* found none"),
    ],
)
def test_refuses_labels(tmp_path: Path, labels: Any, names: list[str] | None, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        ParquetSource(str(write_raw(tmp_path / "f.parquet", labels, names)))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("told", ["[]", "{}", '{"info": {"features": []}}', '{"info": 3}', "no json", "[" * 5000])
def test_metadata_that_says_nothing_is_passed_over(tmp_path: Path, told: str) -> None:
    table = pa.table({"image": [b"x"], "label": [5]}).replace_schema_metadata({"huggingface": told})
    pq.write_table(table, tmp_path / "f.parquet")
    assert ParquetSource(str(tmp_path / "f.parquet")).identities == ["5"]


def test_refuses_files_that_disagree(tmp_path: Path) -> None:
    hub_file(tmp_path / "0.parquet", [0, 1], ["a", "b"])
    hub_file(tmp_path / "1.parquet", [0, 1], ["b", "a"])
    with pytest.raises(UserError, match=r"labels in .*1.parquet' as in the files before it"):
        ParquetSource(str(tmp_path))
    write_raw(tmp_path / "1.parquet", ["a", "b"])
    with pytest.raises(UserError, match="as in the files before it"):
        ParquetSource(str(tmp_path))


def test_refuses_a_folder_of_several_splits(tmp_path: Path) -> None:
    for split in ("train", "test"):
        hub_file(tmp_path / f"{split}-00000-of-00001.parquet", [0, 1], ["a", "b"])
    with pytest.raises(UserError, match=r"one split in .* found test, train; choose by a pattern like .*test-\*"):
        ParquetSource(str(tmp_path))
    assert len(ParquetSource(f"{tmp_path}/train-*.parquet")) == 2
    with pytest.raises(UserError, match=r"expected Parquet files at .* found none"):
        ParquetSource(f"{tmp_path}/valid-*.parquet")


def test_refuses_what_is_stored_in_an_unknown_way(tmp_path: Path) -> None:
    coded = write_raw(
        tmp_path / "f.parquet", [0, 1], use_dictionary=False, column_encoding={"image": "DELTA_LENGTH_BYTE_ARRAY"}
    )
    with pytest.raises(UserError, match="found DELTA_LENGTH_BYTE_ARRAY; rewrite it"):
        ParquetSource(str(coded))
    delta = write_raw(
        tmp_path / "f.parquet", [0, 1], use_dictionary=False, column_encoding={"label": "DELTA_BINARY_PACKED"}
    )
    with pytest.raises(UserError, match=r"expected label stored plain .* found DELTA_BINARY_PACKED; rewrite it"):
        ParquetSource(str(delta))
    (tmp_path / "f.parquet").write_bytes(b"PAR1" + bytes(100) + b"PAR1")
    with pytest.raises(UserError, match="expected a whole Parquet file at"):
        ParquetSource(str(coded))


def test_refuses_rows_beyond_all_bytes(tmp_path: Path) -> None:
    table = pa.table({"image": [b"x"] * 200_000, "label": [0] * 200_000})
    pq.write_table(table, tmp_path / "f.parquet")
    with pytest.raises(UserError, match="found 200000 rows in"):
        ParquetSource(str(tmp_path / "f.parquet"))


def test_says_how_to_get_pyarrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_raw(tmp_path / "f.parquet", [0, 1], compression="zstd")
    write_raw(tmp_path / "g.parquet", [0, 1], compression="gzip")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert ParquetSource(str(tmp_path / "g.parquet")).read(1) == (b"x", 1)
    with pytest.raises(UserError, match=r"pip install 'proxylesskd\[parquet\]'"):
        ParquetSource(str(tmp_path / "f.parquet"))
    with pytest.raises(UserError, match=r"writing Parquet needs the package 'pyarrow'"):
        write_parquet(MemorySource(1, 1), tmp_path / "out")


def test_writes_what_pyarrow_reads_in_the_layout_of_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "FILE_IMAGES", 150)
    faces = MemorySource(9, 37)
    shuffled = np.random.default_rng(6).permutation(len(faces))
    faces.labels, faces._data = faces.labels[shuffled], [faces._data[i] for i in shuffled.tolist()]
    told: list[tuple[int, int]] = []
    written = write_parquet(faces, tmp_path / "out", progress=lambda done, total: told.append((done, total)))
    assert (written.images, written.skipped) == (333, {})
    assert told[-1] == (333, 333)
    files = sorted((tmp_path / "out").iterdir())
    assert [f.name for f in files] == [f"train-0000{i}-of-00003.parquet" for i in range(3)]
    metadata = pq.ParquetFile(files[0]).metadata
    assert [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)] == [100, 50]
    assert metadata.row_group(0).column(0).compression == "UNCOMPRESSED"
    features = json.loads(pq.read_schema(files[2]).metadata[b"huggingface"])["info"]["features"]
    assert features == {"image": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": faces.identities}}
    rows = pa.concat_tables([pq.read_table(f) for f in files]).to_pylist()
    order = sorted(range(333), key=lambda i: (faces.labels[i], i))
    assert [(row["image"]["bytes"], row["label"]) for row in rows] == [faces.read(i) for i in order]
    assert rows[7]["image"]["path"] == "00000007.jpg"
    source = ParquetSource(str(tmp_path / "out"))
    assert source.identities == faces.identities
    assert [source.read(i) for i in range(333)] == [faces.read(i) for i in order]


class Dying(MemorySource):
    """Is killed after some reads; three images cannot be read."""

    left = 10**9

    def read(self, index: int) -> tuple[bytes, int]:
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt
        if index in (5, 170, 171):
            raise CorruptImageError("gone")
        return super().read(index)


def test_goes_on_after_a_kill_with_the_complete_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "FILE_IMAGES", 100)
    dying, probes = Dying(9, 40), 64
    dying.left = probes + 250
    with pytest.raises(KeyboardInterrupt):
        write_parquet(dying, tmp_path / "out")
    kept = {f.name: f.stat().st_ino for f in (tmp_path / "out.part").glob("*.parquet")}
    assert sorted(kept) == ["train-00000-of-00004.parquet", "train-00001-of-00004.parquet"]
    dying.left = probes + 160
    written = write_parquet(dying, tmp_path / "out")
    assert written.images == 357
    assert sorted(written.skipped) == [5, 170, 171]
    assert {name: (tmp_path / "out" / name).stat().st_ino for name in kept} == kept
    assert len(list((tmp_path / "out").iterdir())) == 4
    source = ParquetSource(str(tmp_path / "out"))
    wanted = [dying._data[i] for i in range(360) if i not in (5, 170, 171)]
    assert [source.read(i)[0] for i in range(357)] == wanted


def test_refuses_to_write_a_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="expected a folder to write Parquet files into"):
        write_parquet(MemorySource(1, 1), tmp_path / "faces.parquet")


def test_the_datasets_library_opens_it(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    faces = MemorySource(3, 4)
    write_parquet(faces, tmp_path / "out")
    opened = datasets.load_dataset(str(tmp_path / "out"), split="train", cache_dir=str(tmp_path / "cache"))
    assert opened.features["label"].names == faces.identities
    assert opened[5]["image"].size == (112, 112)
    assert [row["label"] for row in opened] == faces.labels.tolist()
