"""LMDB, against the lmdb library as writer and as reader."""

from __future__ import annotations

import pickle
import struct
from multiprocessing import get_context
from pathlib import Path

import lmdb
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxylesskd.data.formats import lmdb as module
from proxylesskd.data.formats.lmdb import LmdbSource, write_lmdb
from proxylesskd.data.formats.lmdb_file import LmdbFile
from proxylesskd.data.source import open_source
from proxylesskd.errors import CorruptImageError, UserError
from tests.faces import MemorySource, face, jpeg

IMAGE = jpeg(face(0, 0))


def library(path: Path, entries: dict[bytes, bytes], **options: object) -> Path:
    with lmdb.open(str(path), map_size=1 << 26, **options) as environment, environment.begin(write=True) as transaction:
        for key, value in entries.items():
            transaction.put(key, value)
    return path


def all_entries(path: Path) -> dict[bytes, bytes]:
    file = LmdbFile(path / "data.mdb")
    entries = file.entries()
    return {key: file.value(entries, row) for row, key in enumerate(entries.keys())}


@settings(max_examples=40, deadline=None)
@given(
    st.dictionaries(st.binary(min_size=1, max_size=511), st.binary(max_size=6000), max_size=30),
    st.integers(0, 400),
    st.integers(0, 2**32),
)
def test_whatever_the_library_holds_is_found(
    tmp_path_factory: pytest.TempPathFactory, entries: dict[bytes, bytes], more: int, seed: int
) -> None:
    random = np.random.default_rng(seed)
    for number in random.permutation(more).tolist():
        entries[b"%d" % number] = random.bytes(int(random.integers(0, 5000)))
    path = library(tmp_path_factory.mktemp("lmdb") / "a", entries)
    with lmdb.open(str(path)) as environment, environment.begin(write=True) as transaction:
        for key in list(entries)[::3]:  # freed pages, a second transaction
            transaction.delete(key)
            del entries[key]
    assert all_entries(path) == entries
    assert list(all_entries(path)) == sorted(entries)


def test_a_tree_of_three_levels(tmp_path: Path) -> None:
    entries = {b"%0200d" % i: b"%d" % i for i in range(3000)}
    path = library(tmp_path / "a", entries)
    with lmdb.open(str(path)) as environment:
        assert environment.stat()["depth"] >= 3
    assert all_entries(path) == entries


def test_round_trip_as_the_library_sees_it(tmp_path: Path) -> None:
    faces = MemorySource(4, 30)
    faces.identities = ["ü", "a/b", "c", "d"]  # not sorted: the order is kept
    assert write_lmdb(faces, tmp_path / "set").images == 120
    assert [path.name for path in (tmp_path / "set").iterdir()] == ["data.mdb"]
    back = open_source(f"lmdb:{tmp_path / 'set'}")
    assert list(back.identities) == faces.identities
    assert back.labels.tolist() == faces.labels.tolist()
    assert back.labels.dtype == np.int64
    assert [back.read(i) for i in range(120)] == [faces.read(i) for i in range(120)]
    assert back.name(7) == "000000007"
    assert isinstance(open_source(str(tmp_path / "set")), LmdbSource)
    assert len(LmdbSource(tmp_path / "set" / "data.mdb")) == 120
    with lmdb.open(str(tmp_path / "set"), readonly=True, lock=False) as environment, environment.begin() as transaction:
        assert transaction.stat()["entries"] == 123
        assert transaction.get(b"000000101") == faces.read(101)[0]
        labels = transaction.get(b"!labels")
        assert labels is not None
        assert struct.unpack("<120i", labels) == tuple(faces.labels.tolist())


def test_identities_without_images_are_left_out(tmp_path: Path) -> None:
    faces = MemorySource(3, 2)
    faces.identities = ["a", "nobody", "b", "c"]
    faces.labels = np.array([0, 0, 2, 2, 3, 3])
    write_lmdb(faces, tmp_path / "set")
    back = LmdbSource(tmp_path / "set")
    assert list(back.identities) == ["a", "b", "c"]
    assert back.labels.tolist() == [0, 0, 1, 1, 2, 2]


def test_the_map_grows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAP_BYTES", 1 << 16)
    monkeypatch.setattr(module, "BATCH_BYTES", 1 << 14)
    faces = MemorySource(5, 50)
    write_lmdb(faces, tmp_path / "set")
    back = LmdbSource(tmp_path / "set")
    assert all(back.read(i) == faces.read(i) for i in range(250))


@pytest.mark.parametrize(
    ("labels", "names", "expected"),
    [
        (["10", "9", "10"], ["9", "10"], [1, 0, 1]),
        (["b", "a", "b"], ["a", "b"], [1, 0, 1]),
        (["01", "1", "1"], ["01", "1"], [0, 1, 1]),
    ],
)
def test_numbered_images_with_labels(tmp_path: Path, labels: list[str], names: list[str], expected: list[int]) -> None:
    entries = {b"num-samples": b"3"}
    for number, label in enumerate(labels, start=1):
        entries[b"image-%09d" % number] = IMAGE + b"%d" % number
        entries[b"label-%09d" % number] = label.encode()
    source = LmdbSource(library(tmp_path / "a", entries))
    assert (list(source.identities), source.labels.tolist()) == (names, expected)
    assert [source.read(i)[0][-1:] for i in range(3)] == [b"1", b"2", b"3"]
    assert source.name(2) == "image-000000003"


def test_images_at_keys_with_their_identity(tmp_path: Path) -> None:
    keys = ["Ann/1.jpg", "Ann/2.png", "Bob/x/1.jpg"]
    path = library(tmp_path / "a", {key.encode(): IMAGE + key.encode() for key in keys}, subdir=False)
    source = LmdbSource(path)
    assert (list(source.identities), source.labels.tolist()) == (["Ann", "Bob/x"], [0, 0, 1])
    assert source.read(2) == (IMAGE + b"Bob/x/1.jpg", 1)
    assert source.name(0) == "Ann/1.jpg"


class Bomb:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (pytest.fail, ("a pickle was run",))


@pytest.mark.parametrize(
    ("entries", "found"),
    [
        ({}, "no entries"),
        ({b"%08d" % i: pickle.dumps(Bomb()) for i in range(3)}, "could run code"),
        ({b"__len__": pickle.dumps(2), b"0": IMAGE, b"1": IMAGE}, "could run code"),
        ({b"0": b"\x93\xc4", b"__keys__": b"\x92"}, "could run code"),
        ({b"%08d" % i: b"\x08\x03\x10\x70\x18\x70" for i in range(3)}, "Caffe"),
        ({b"a/1.jpg": b"text"}, "no JPEG"),
        ({b"0": IMAGE, b"1": IMAGE}, "where an identity would have to stand"),
        ({b"\xff/a": IMAGE}, "where an identity would have to stand"),
        ({b"num-samples": b"1", b"image-000000001": IMAGE}, "not every key label-000000001"),
        ({b"num-samples": b"2", b"image-000000001": IMAGE, b"label-000000001": b"1"}, "not every key"),
        ({b"num-samples": b"-1"}, "not every key"),
        ({b"num-samples": b"9" * 9, b"image-000000001": IMAGE}, "not every key"),
        ({b"num-samples": b""}, "a label of 0 bytes"),
        ({b"num-samples": b"1", b"image-000000001": IMAGE, b"label-000000001": b"\xff"}, "no text"),
        ({b"num-samples": b"1", b"image-000000001": IMAGE, b"label-000000001": b"x" * 70000}, "a label of 70000"),
    ],
)
def test_other_kinds_are_refused(tmp_path: Path, entries: dict[bytes, bytes], found: str) -> None:
    with pytest.raises(UserError, match=found):
        LmdbSource(library(tmp_path / "a", entries))


OURS = {b"!set": b"proxylesskd 1", b"!labels": struct.pack("<2i", 0, 1), b"!identities": b'["a", "b"]'}
IMAGES = {b"000000000": IMAGE, b"000000001": IMAGE}


@pytest.mark.parametrize(
    ("changed", "found"),
    [
        ({b"!set": b"proxylesskd 2"}, "another version"),
        ({b"000000003": IMAGE}, "do not count up"),
        ({b"extra": IMAGE}, "do not count up"),
        ({b"!labels": struct.pack("<2i", 0, 2)}, "do not fit"),
        ({b"!labels": struct.pack("<2i", 0, -1)}, "do not fit"),
        ({b"!labels": struct.pack("<3i", 0, 0, 0)}, "do not fit"),
        ({b"!labels": b"abc"}, "do not fit"),
        ({b"!labels": b""}, "do not fit"),
        ({b"!identities": b"[" * 90_000}, "do not fit"),
        ({b"!identities": b"[1, 2]"}, "do not fit"),
        ({b"!identities": b'["a", "a"]'}, "do not fit"),
        ({b"!identities": b'["a", "\\ud800"]'}, "do not fit"),
        ({b"!identities": b"\xff"}, "do not fit"),
    ],
)
def test_our_own_kind_broken(tmp_path: Path, changed: dict[bytes, bytes], found: str) -> None:
    assert len(LmdbSource(library(tmp_path / "good", OURS | IMAGES))) == 2
    with pytest.raises(UserError, match=found):
        LmdbSource(library(tmp_path / "bad", OURS | IMAGES | changed))


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"give the folder that holds data\.mdb"):
        LmdbSource(tmp_path)


def test_a_huge_image_is_a_corrupt_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_lmdb(MemorySource(1, 1), tmp_path / "set")
    monkeypatch.setattr(module, "MAX_IMAGE_BYTES", 100)
    with pytest.raises(CorruptImageError, match="expected an image below"):
        LmdbSource(tmp_path / "set").read(0)


def _read_all(source: LmdbSource) -> list[tuple[bytes, int]]:
    return [source.read(index) for index in range(len(source))]


def test_other_processes_read_the_same(tmp_path: Path) -> None:
    write_lmdb(MemorySource(2, 3), tmp_path / "set")
    source = LmdbSource(tmp_path / "set")
    assert _read_all(pickle.loads(pickle.dumps(source))) == _read_all(source)
    with get_context("fork").Pool(1) as pool:
        assert pool.apply(_read_all, (source,)) == _read_all(source)


def test_the_library_is_asked_for_where_it_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_lmdb(MemorySource(1, 1), tmp_path / "set")
    monkeypatch.setitem(__import__("sys").modules, "lmdb", None)
    assert len(LmdbSource(tmp_path / "set")) == 1  # reading does without it
    with pytest.raises(UserError, match=r"pip install 'proxylesskd\[lmdb\]'"):
        write_lmdb(MemorySource(1, 1), tmp_path / "other")
