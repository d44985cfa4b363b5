"""Tar files: what lies in them and where, without unpacking anything, and members packed.

A member is a header of 512 bytes, its content, and padding to 512 bytes; a block of zeros ends the file. Before its
header may stand one of kind ``x`` (PAX: lines ``LENGTH KEY=VALUE``) or ``L`` (GNU: the name) with what does not fit
into it. Nothing is ever written where a name says; links, devices and sparse files are refused.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from zlib import adler32

from proxylesskd.errors import CorruptImageError, UserError

BLOCK = 512
RECORD = 20 * BLOCK
ZEROS = bytes(BLOCK)
# Labels, names and JSON are short; more than this is a mistake or an attack.
MAX_TEXT_BYTES = 1 << 20
# A header, a label, a second header: mostly there in one reading.
WINDOW = 8 * BLOCK
REGULAR = b"0\0007"
FOLDER = ord("5")
KINDS = {
    "1": "a hard link",
    "2": "a symbolic link",
    "3": "a device",
    "4": "a device",
    "6": "a pipe",
    "S": "a sparse file",
}
ADLER = 65521
GZIP, ZSTD, XZ, BZIP2 = b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"\xfd7zXZ", b"BZh"


class Member(NamedTuple):
    """One regular file of a tar.

    Attributes:
        name: as stored.
        start: byte of its first header.
        offset: byte of its content.
        size: of its content, in bytes.
    """

    name: str
    start: int
    offset: int
    size: int


class _Extra(NamedTuple):
    """What the headers before the header say."""

    name: str | None = None
    size: int | None = None


class TarFile:
    """One tar, open for reading; threads may share it, other processes open it anew."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.descriptor = os.open(path, os.O_RDONLY)
        weakref.finalize(self, os.close, self.descriptor)
        self.size = os.fstat(self.descriptor).st_size

    def __reduce__(self) -> tuple[type[TarFile], tuple[Path]]:
        """Open the file anew where it is unpickled."""
        return TarFile, (self.path,)

    def damaged(self, at: int, found: str) -> UserError:
        """Return the error that says what stands at byte ``at`` in place of a member."""
        return UserError(
            f"expected a member of a tar in '{self.path}' at byte {at}, found {found}; make or fetch the file again"
        )

    def content(self, offset: int, size: int) -> bytes:
        """Return ``size`` bytes from byte ``offset`` on.

        Raises:
            CorruptImageError: they do not lie within the file.
        """
        data = os.pread(self.descriptor, size, offset) if 0 <= size <= self.size - offset <= self.size else b""
        if len(data) != size:
            raise CorruptImageError(
                f"expected {size} bytes in '{self.path}' at byte {offset}, found the end of the file at {self.size}"
            )
        return data

    def members(self) -> Iterator[tuple[Member, _Window]]:
        """Yield every regular file, in order, with the window to read a small content through.

        Raises:
            UserError: no tar, a truncated or compressed one, or one with members that are not regular files.
        """
        window, at = _Window(self), 0
        while (found := _next(self, window, at)) is not None:
            member, at = found
            if member is not None:
                yield member, window

    def member(self, start: int) -> Member:
        """Return the member whose first header stands at byte ``start``."""
        found = _next(self, _Window(self), start)
        if found is None or found[0] is None:
            raise self.damaged(start, "no regular file")
        return found[0]


class _Window:
    """Reads forward in pieces that hold several headers."""

    def __init__(self, file: TarFile) -> None:
        self._file, self._at, self._data = file, 0, b""

    def take(self, at: int, count: int) -> bytes:
        """Return ``count`` bytes from byte ``at`` on; fewer at the end of the file."""
        low = at - self._at
        if low < 0 or low + count > len(self._data):
            self._data = os.pread(self._file.descriptor, max(count, WINDOW), at)
            self._at, low = at, 0
        return self._data[low : low + count]

    def text(self, member: Member) -> bytes:
        """Return the content of a small member.

        Raises:
            UserError: it is larger than any label (1 MiB).
        """
        if member.size > MAX_TEXT_BYTES:
            raise self._file.damaged(member.start, f"{member.size} bytes of text in '{member.name}'")
        return self.take(member.offset, member.size)


def _number(field: bytes) -> int:
    """Return an octal or, with the upper bit set, a binary number; raises ValueError."""
    if field[0] & 0x80:
        return int.from_bytes(field, "big") - (0x80 << 8 * (len(field) - 1))
    text = field.strip(b" \0")
    if text and not text.isdigit():
        raise ValueError("no octal number")
    return int(text or b"0", 8)


def _checked_size(file: TarFile, header: bytes, at: int) -> int:
    try:
        told, size = _number(header[148:156]), _number(header[124:136])
    except ValueError:
        raise file.damaged(at, _no_tar(header, at)) from None
    # The sum is taken with the field of the sum full of spaces. Adler's first half is a sum of bytes as well, and
    # ten times as fast as adding them up here.
    found = adler32(header[156:], adler32(b" " * 8, adler32(header[:148], 0))) & 0xFFFF
    if told % ADLER != found:
        raise file.damaged(at, _no_tar(header, at))
    return size


def _no_tar(header: bytes, at: int) -> str:
    if at == 0 and header.startswith((GZIP, ZSTD, XZ, BZIP2)):
        return "a compressed file, in which no image can be found by its place: unpack it to a plain .tar"
    return "a header whose checksum is wrong"


def _next(file: TarFile, window: _Window, at: int) -> tuple[Member | None, int] | None:
    """Return the member at byte ``at`` (None for a folder) and where the next begins, or None at the end mark."""
    start, extra = at, _Extra()
    while True:
        header = window.take(at, BLOCK)
        if len(header) < BLOCK:
            raise file.damaged(at, f"the end of the file at byte {file.size}, without a tar's end mark: it is cut off")
        if header == ZEROS:
            return None
        size, kind = _checked_size(file, header, at), header[156]
        if extra.size is not None and kind in REGULAR:
            size = extra.size
        offset = at + BLOCK
        at = offset + (size + BLOCK - 1) // BLOCK * BLOCK
        if kind == FOLDER:
            return None, offset
        if size < 0 or offset + size > file.size:
            raise file.damaged(start, f"a size of {size} bytes, past the end of the file at byte {file.size}")
        if kind in REGULAR:
            name = _header_name(header) if extra.name is None else extra.name
            return Member(_checked_name(file, name, start), start, offset, size), at
        extra = _extra(file, kind, window.text(Member("a header", start, offset, size)), extra, start)


def _extra(file: TarFile, kind: int, data: bytes, extra: _Extra, start: int) -> _Extra:
    """Return what is known with the content of an extra header of that kind."""
    if kind == ord("x"):
        return _pax(file, data, extra, start)
    if kind == ord("L"):
        return extra._replace(name=_text(data.rstrip(b"\0")))
    if kind in b"gK":  # of the whole file: who made it; and the target of a link, which would be refused
        return extra
    found = KINDS.get(chr(kind), f"a member of kind {chr(kind)!a}")
    raise file.damaged(start, f"{found}, which no set of images needs")


def _pax(file: TarFile, data: bytes, extra: _Extra, start: int) -> _Extra:
    at = 0
    while at < len(data):
        digits, _, _ = data[at : at + 20].partition(b" ")
        length = int(digits) if digits.isdigit() else 0
        line = data[at + len(digits) + 1 : at + length]
        key, equals, value = line.partition(b"=")
        if length < 5 or at + length > len(data) or not equals or not value.endswith(b"\n"):
            raise file.damaged(start, "a PAX header that is not one")
        extra = _with_pax(file, extra, key, value[:-1], start)
        at += length
    return extra


def _with_pax(file: TarFile, extra: _Extra, key: bytes, value: bytes, start: int) -> _Extra:
    if key == b"path":
        return extra._replace(name=_text(value))
    if key == b"size":
        if not value.isdigit() or len(value) > 18:
            raise file.damaged(start, f"a size of {value[:40]!r}")
        return extra._replace(size=int(value))
    if key.startswith(b"GNU.sparse"):
        raise file.damaged(start, f"{KINDS['S']}, which no set of images needs")
    return extra


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def _header_name(header: bytes) -> str:
    name = header[:100].split(b"\0", 1)[0]
    if header[345] and header[257:265] == b"ustar\00000":
        name = header[345:500].split(b"\0", 1)[0] + b"/" + name
    return _text(name)


def _checked_name(file: TarFile, name: str, start: int) -> str:
    if name.startswith("/") or (".." in name and ".." in name.split("/")) or "\0" in name or not name:
        raise file.damaged(start, f"the name {name[:80]!r}, which leads out of the tar" if name else "no name")
    return name


def pack_member(name: str, data: bytes) -> bytes:
    """Return a regular file as it stands in a tar.

    Args:
        name: ASCII, below 100 characters.
        data: its content, below 8 GiB.
    """
    numbers = b"0000644\x000000000\x000000000\x00%011o\x0000000000000\x00" % len(data)  # mode, uid, gid, size, time
    front = name.encode("ascii").ljust(100, b"\0") + numbers
    back = b"0" + bytes(100) + b"ustar\x0000"
    told = b"%06o\x00 " % (sum(front) + sum(back) + 8 * 32)
    return (front + told + back).ljust(BLOCK, b"\0") + data + bytes(-len(data) % BLOCK)


def end_mark(size: int) -> bytes:
    """Return what closes a tar of so many bytes: zeros up to a multiple of the usual 10 KiB."""
    return bytes(2 * BLOCK + -(size + 2 * BLOCK) % RECORD)
