"""Damaged and hostile LMDB files, which end a process that opens them with the library."""

from __future__ import annotations

import struct
from pathlib import Path

import lmdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxylesskd.data.formats.lmdb_file import LmdbFile
from proxylesskd.errors import CorruptImageError, UserError

PAGE = 4096


def made(path: Path, count: int = 200, size: int = 40) -> bytes:
    """A file by the library: ``count`` small values, two large ones."""
    with lmdb.open(str(path), map_size=1 << 24) as environment, environment.begin(write=True) as transaction:
        for number in range(count):
            transaction.put(b"%05d" % number, b"%d" % number * size)
        transaction.put(b"large", b"x" * 9000)
        transaction.put(b"larger", b"y" * 20000)
    return (path / "data.mdb").read_bytes()


def everything(path: Path, data: bytes) -> list[bytes]:
    path.write_bytes(data)
    file = LmdbFile(path)
    entries = file.entries()
    return [file.value(entries, row) for row in range(len(entries.ends))]


def newest_meta(data: bytes) -> int:
    """Return where the meta page that counts begins."""
    return max((0, PAGE), key=lambda at: struct.unpack_from("<Q", data, at + 144)[0])


def root(data: bytes) -> int:
    return int(struct.unpack_from("<Q", data, newest_meta(data) + 128)[0])


def poked(data: bytes, at: int, form: str, *values: int) -> bytes:
    changed = bytearray(data)
    struct.pack_into(form, changed, at, *values)
    return bytes(changed)


def test_the_file_is_whole_before_it_is_harmed(tmp_path: Path) -> None:
    found = everything(tmp_path / "a.mdb", made(tmp_path / "set"))
    assert len(found) == 202
    assert found[-2:] == [b"x" * 9000, b"y" * 20000]


@pytest.mark.parametrize("keep", [0, 10, 100, PAGE, PAGE + 100, 2 * PAGE, -1, -PAGE])
def test_a_cut_file(tmp_path: Path, keep: int) -> None:
    data = made(tmp_path / "set")
    with pytest.raises(UserError, match=r"end of the file|cut off"):
        everything(tmp_path / "a.mdb", data[:keep])


@pytest.mark.parametrize(
    ("at", "form", "value", "found"),
    [
        (16, "<I", 1, "no LMDB magic"),
        (20, "<I", 2, "version 2"),
        (40, "<I", 0, "pages of 0 bytes"),
        (40, "<I", 1 << 31, "pages of"),
        (92, "<H", 4, "several values"),
        (120, "<Q", 5, "202 entries where it counts 5"),
        (128, "<Q", 1, "a page 1 outside"),
        (128, "<Q", 1 << 60, "outside its"),
        (136, "<Q", 1 << 62, "cut off"),
        (104, "<Q", 0, "a tree that does not end"),
    ],
)
def test_meta_pages_that_lie(tmp_path: Path, at: int, form: str, value: int, found: str) -> None:
    data = made(tmp_path / "set")
    for meta in (0, PAGE):
        data = poked(data, meta + at, form, value)
    with pytest.raises(UserError, match=found):
        everything(tmp_path / "a.mdb", data)


def test_meta_pages_that_contradict_each_other(tmp_path: Path) -> None:
    data = made(tmp_path / "set")
    assert newest_meta(data) == PAGE
    with pytest.raises(UserError, match="contradict"):
        everything(tmp_path / "a.mdb", poked(data, PAGE + 40, "<I", 8192))


def test_an_older_meta_page_is_not_used(tmp_path: Path) -> None:
    data = made(tmp_path / "set")
    assert len(everything(tmp_path / "a.mdb", poked(data, 128, "<Q", 12345))) == 202


def branch(data: bytes) -> int:
    at = root(data) * PAGE
    assert struct.unpack_from("<H", data, at + 10)[0] == 1
    return at


def first_leaf(data: bytes) -> int:
    at = branch(data)
    node = at + struct.unpack_from("<H", data, at + 16)[0]
    return int(struct.unpack_from("<H", data, node)[0]) * PAGE


def node_of(data: bytes, key: bytes) -> int:
    """Return where the node of a key begins."""
    return data.index(struct.pack("<H", len(key)) + key) - 6


def test_a_branch_that_leads_to_itself(tmp_path: Path) -> None:
    data = made(tmp_path / "set")
    at = branch(data)
    node = at + struct.unpack_from("<H", data, at + 16)[0]
    with pytest.raises(UserError, match="does not end"):
        everything(tmp_path / "a.mdb", poked(data, node, "<H", at // PAGE))


def test_pages_that_are_not_what_they_should_be(tmp_path: Path) -> None:
    data = made(tmp_path / "set")
    leaf = first_leaf(data)
    for at, form, value, found in (
        (leaf, "<Q", 99, "another page in place"),
        (leaf + 10, "<H", 4, "of kind 4"),
        (leaf + 12, "<H", 3, "a broken page"),
        (leaf + 12, "<H", 65534, "a broken page"),
        (leaf + 16, "<H", 4095, "a broken page"),
        (leaf + 16, "<H", 0, "a broken page"),
        (node_of(data, b"00000"), "<H", 60000, "a broken page"),
        (node_of(data, b"00000") + 4, "<H", 2, "named databases"),
        (node_of(data, b"00000") + 6, "<H", 600, "a broken page"),
        (node_of(data, b"larger") + 8 + 6, "<Q", 1 << 63, "a value outside"),
        (node_of(data, b"larger") + 8 + 6, "<Q", 1, "a value outside"),
        (node_of(data, b"larger") + 2, "<H", 9999, "past the end of the file"),
    ):
        with pytest.raises(UserError, match=found):
            everything(tmp_path / "a.mdb", poked(data, at, form, value))


def test_a_value_in_pages_of_another(tmp_path: Path) -> None:
    data = made(tmp_path / "set")
    page = struct.unpack_from("<Q", data, node_of(data, b"larger") + 8 + 6)[0]
    for at, form, value in ((page * PAGE, "<Q", 3), (page * PAGE + 10, "<H", 2), (page * PAGE + 12, "<I", 1)):
        with pytest.raises(CorruptImageError, match="another page"):
            everything(tmp_path / "a.mdb", poked(data, at, form, value))


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_damaged_files_raise_nothing_else(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    whole = made(tmp_path_factory.mktemp("lmdb") / "set", count=120)
    changed = bytearray(whole)
    # Where the structure stands: the meta pages, and the heads of the pages with their pointers.
    spots = st.one_of(
        st.integers(16, 152),
        st.integers(PAGE + 16, PAGE + 152),
        st.builds(lambda page, at: page * PAGE + at, st.integers(2, len(whole) // PAGE - 1), st.integers(0, 40)),
        st.integers(2 * PAGE, len(whole) - 1),
    )
    for _ in range(data.draw(st.integers(1, 5))):
        changed[data.draw(spots)] = data.draw(st.sampled_from([0, 1, 2, 3, 4, 8, 16, 127, 128, 255]))
    try:
        found = everything(tmp_path_factory.mktemp("fuzz") / "a.mdb", bytes(changed))
    except UserError:
        return
    assert sum(map(len, found)) <= 202 * len(whole)
