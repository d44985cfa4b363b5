"""Tars, against those of the standard library."""

from __future__ import annotations

import io
import os
import pickle
import struct
import subprocess
import tarfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxylesskd.data.formats.tar_file import TarFile, end_mark, pack_member
from proxylesskd.errors import CorruptImageError, UserError

LONG = "f" * 70 + "/" + "n" * 80 + ".jpg"


def library_tar(path: Path, files: dict[str, bytes], form: int = tarfile.PAX_FORMAT, **fields: object) -> Path:
    with tarfile.open(path, "w", format=form) as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            for key, value in fields.items():
                setattr(member, key, value)
            tar.addfile(member, io.BytesIO(data))
    return path


def listed(path: Path) -> dict[str, bytes]:
    file = TarFile(path)
    return {member.name: file.content(member.offset, member.size) for member, _ in file.members()}


def header(name: bytes = b"a.jpg", size: bytes = b"00000000003\0", kind: bytes = b"0", link: bytes = b"") -> bytes:
    """One header laid out by hand, its sum right."""
    front = name.ljust(100, b"\0") + b"0000644\x000000000\x000000000\0" + size + b"00000000000\0"
    back = (kind + link.ljust(100, b"\0") + b"ustar\x0000").ljust(512 - 156, b"\0")
    return front + b"%06o\0 " % (sum(front) + sum(back) + 256) + back


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_every_dialect_of_the_library(tmp_path: Path, form: int) -> None:
    files = {"a.jpg": b"one", LONG: b"x" * 513, "b/c.cls": b"", "ü.jpg": b"two", "d.jpg": bytes(1024)}
    assert listed(library_tar(tmp_path / "a.tar", files, form)) == files


def test_pax_headers_of_a_fractional_time(tmp_path: Path) -> None:
    path = library_tar(tmp_path / "a.tar", {"a.jpg": b"one", "b.jpg": b"two"}, mtime=1.25)
    assert b"mtime=1.25" in path.read_bytes()
    assert listed(path) == {"a.jpg": b"one", "b.jpg": b"two"}


def test_folders_and_global_headers_are_passed_over(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w", pax_headers={"comment": "of the whole"}) as tar:
        folder = tarfile.TarInfo("a")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
        member = tarfile.TarInfo("a/b.jpg")
        member.size = 3
        tar.addfile(member, io.BytesIO(b"one"))
    assert listed(tmp_path / "a.tar") == {"a/b.jpg": b"one"}


def test_what_gnu_tar_makes(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name in ("0.jpg", "0.cls", "ü" * 70 + ".jpg"):
        (tmp_path / "in" / name).write_bytes(name.encode())
    subprocess.run(["tar", "cf", tmp_path / "a.tar", "-C", tmp_path / "in", "."], check=True)
    assert {name.removeprefix("./"): data.decode() for name, data in listed(tmp_path / "a.tar").items()} == {
        name: name for name in ("0.jpg", "0.cls", "ü" * 70 + ".jpg")
    }


@settings(max_examples=60, deadline=None)
@given(st.lists(st.binary(max_size=1500), max_size=6))
def test_what_is_packed_is_read_by_the_library(tmp_path_factory: pytest.TempPathFactory, contents: list[bytes]) -> None:
    path = tmp_path_factory.mktemp("tar") / "a.tar"
    data = b"".join(pack_member(f"{i}.jpg", content) for i, content in enumerate(contents))
    path.write_bytes(data + end_mark(len(data)))
    assert path.stat().st_size % 10240 == 0
    with tarfile.open(path) as tar:
        assert [tar.extractfile(m).read() for m in tar.getmembers()] == contents  # type: ignore[union-attr]
    assert list(listed(path).values()) == contents


def test_a_member_is_found_again_by_its_first_header(tmp_path: Path) -> None:
    file = TarFile(library_tar(tmp_path / "a.tar", {"a.jpg": b"one", LONG: b"two"}))
    members = [member for member, _ in file.members()]
    assert [file.member(member.start) for member in members] == members
    with pytest.raises(UserError, match="no regular file"):
        file.member(file.size - 512)
    assert pickle.loads(pickle.dumps(file)).member(members[1].start).name == LONG


def test_a_large_member_in_binary(tmp_path: Path) -> None:
    size = 9 << 30  # more than eleven octal digits say
    head = header(size=b"\x80" + size.to_bytes(11, "big"))
    with (tmp_path / "a.tar").open("wb") as file:  # a hole, not gigabytes
        file.write(head)
        file.truncate(512 + size)
        file.seek(0, os.SEEK_END)
        file.write(header() + b"two".ljust(512, b"\0") + bytes(1024))
    found = TarFile(tmp_path / "a.tar")
    assert [(m.offset, m.size) for m, _ in found.members()] == [(512, size), (size + 1024, 3)]


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (b"", "cut off"),
        (b"\x1f\x8b" + bytes(600), "compressed"),
        (b"\x28\xb5\x2f\xfd" + b"a" * 600, "compressed"),
        (b"not a tar at all" * 64, "checksum is wrong"),
        (header() + b"on", "past the end"),
        (header() + b"one".ljust(512, b"\0"), "without a tar's end mark"),
        (header() + b"one".ljust(512, b"\0") + header()[:300], "without a tar's end mark"),
        (header(size=b"77777777777\0") + bytes(1024), "past the end"),
        (header(size=b"\xff" * 12) + bytes(1024), "past the end"),
        (header(size=b"-0000000003\0") + bytes(1024), "checksum is wrong"),
        (header(size=b"0000_000003\0") + bytes(1024), "checksum is wrong"),
        (header(size=b"00000000009\0") + bytes(1024), "checksum is wrong"),
        (header(b"/etc/passwd") + bytes(2048), "leads out"),
        (header(b"a/../../b.jpg") + bytes(2048), "leads out"),
        (header(b"") + bytes(2048), "no name"),
        (header(kind=b"1", link=b"b.jpg") + bytes(2048), "a hard link"),
        (header(kind=b"2", link=b"/etc/passwd") + bytes(2048), "a symbolic link"),
        (header(kind=b"3") + bytes(2048), "a device"),
        (header(kind=b"6") + bytes(2048), "a pipe"),
        (header(kind=b"S") + bytes(2048), "a sparse file"),
        (header(kind=b"Z") + bytes(2048), "kind 'Z'"),
        (header(kind=b"x") + b"no".ljust(512, b"\0") + header(), "PAX header that is not one"),
        (header(kind=b"x", size=b"00000000014\0") + b"12 size=-12\n".ljust(512, b"\0") + header(), "a size of b'-12'"),
        (header(kind=b"x", size=b"00000000015\0") + b"99 path=a.jpg".ljust(512, b"\0") + header(), "PAX header"),
        (
            header(kind=b"x", size=b"00000000026\0") + b"22 GNU.sparse.major=1\n".ljust(512, b"\0") + header(),
            "a sparse file",
        ),
        (header(kind=b"x", size=b"00010000000\0") + bytes(3 << 20), "bytes of text"),
        (header(kind=b"L", size=b"00010000000\0") + bytes(3 << 20), "bytes of text"),
        (header(kind=b"L") + b"a\0b".ljust(512, b"\0") + header() + bytes(512), "leads out"),
    ],
)
def test_hostile_and_cut_tars_are_refused(tmp_path: Path, data: bytes, found: str) -> None:
    (tmp_path / "a.tar").write_bytes(data)
    with pytest.raises(UserError, match=found):
        listed(tmp_path / "a.tar")


def test_content_outside_the_file(tmp_path: Path) -> None:
    file = TarFile(library_tar(tmp_path / "a.tar", {"a.jpg": b"one"}))
    for offset, size in ((512, file.size), (-1, 3), (file.size + 1, 1), (0, -1)):
        with pytest.raises(CorruptImageError, match="the end of the file"):
            file.content(offset, size)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_damaged_tars_raise_nothing_else(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    path = tmp_path_factory.mktemp("fuzz") / "a.tar"
    library_tar(path, {LONG: b"one", "b.jpg": b"x" * 600}, data.draw(st.sampled_from([1, 2])))
    content = bytearray(path.read_bytes()[: 512 * 9])
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(content) - 1))
        content[at] = data.draw(st.integers(0, 255))
        if data.draw(st.booleans()):  # a right sum, so that what follows is looked at
            block = at // 512 * 512
            body = content[block : block + 148] + b" " * 8 + content[block + 156 : block + 512]
            content[block + 148 : block + 156] = b"%06o\0 " % (sum(body) & 0o777777)
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    try:
        found = listed(path)
    except UserError:
        return
    assert sum(map(len, found.values())) <= len(content)


def test_an_endless_chain_of_extra_headers_ends(tmp_path: Path) -> None:
    line = struct.pack("512s", b"")
    (tmp_path / "a.tar").write_bytes((header(kind=b"g", size=b"00000000000\0")) * 2000 + line * 2)
    assert listed(tmp_path / "a.tar") == {}
