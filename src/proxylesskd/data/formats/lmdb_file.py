"""LMDB files, read without the library: every page is checked before it is believed.

The library maps the file and trusts what stands there, so that a damaged or hostile one ends the process; here it ends
in an error. The file consists of pages. Pages 0 and 1 are meta pages, of which the one with the higher transaction
counts; it names the root of a B+ tree. Branch pages hold the numbers of further pages, leaf pages hold keys and values,
and a value too large for its leaf lies in overflow pages. Numbers are little-endian, as 64-bit machines write them.
"""

from __future__ import annotations

import os
import struct
import weakref
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from proxylesskd.errors import CorruptImageError, UserError

Ints = npt.NDArray[np.int64]
HEADER = struct.Struct("<QHHHH")  # number of the page, -, flags, end of the pointers, begin of the nodes
OVERFLOW = struct.Struct("<QHHI")  # number of the page, -, flags, count of pages
META = struct.Struct("<IIQQ")  # magic, version, -, size of the map
TREE = struct.Struct("<IHHQQQQQ")  # -, flags, depth, branch, leaf and overflow pages, entries, root
MAGIC, VERSION = 0xBEEFC0DE, 1
BRANCH, LEAF, IS_OVERFLOW, DIRTY = 1, 2, 4, 16
BIG, SPECIAL = 1, 6
NO_PAGE = (1 << 64) - 1
MAX_DEPTH = 32
MAX_KEY = 511


@dataclass(frozen=True)
class Entries:
    """All keys of a file, in their order, and where their values lie.

    Attributes:
        text: the N keys behind one another.
        ends: ``[N] int64``, where each key ends in ``text``.
        offset: ``[N] int64``, byte of the value.
        size: ``[N] int64``, bytes of the value.
        page: ``[N] int64``, the overflow page that it begins in; -1 for one within a leaf.
    """

    text: bytes
    ends: Ints
    offset: Ints
    size: Ints
    page: Ints

    def keys(self) -> list[bytes]:
        """Return the keys; of millions of images, that is hundreds of megabytes."""
        ends = self.ends.tolist()
        return [self.text[start:end] for start, end in zip([0, *ends], ends, strict=False)]


@dataclass
class _Found:
    """Entries under way, leaf by leaf."""

    texts: list[bytes] = field(default_factory=list)
    columns: list[Ints] = field(default_factory=list)  # [4, n] each: size of the key, offset, size, page

    def entries(self) -> Entries:
        columns = np.concatenate([np.zeros((4, 0), dtype=np.int64), *self.columns], axis=1)
        return Entries(b"".join(self.texts), np.cumsum(columns[0]), *columns[1:])


@dataclass(frozen=True)
class _Tree:
    """What a meta page says."""

    page_size: int
    flags: int
    depth: int
    pages: int
    entries: int
    root: int
    last: int
    transaction: int


class LmdbFile:
    """One ``data.mdb``, open for reading; threads may share it, other processes open it anew."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.descriptor = os.open(path, os.O_RDONLY)
        weakref.finalize(self, os.close, self.descriptor)
        self.size = os.fstat(self.descriptor).st_size
        self._tree = self._newest()
        self._page_size = self._tree.page_size

    def __reduce__(self) -> tuple[type[LmdbFile], tuple[Path]]:
        """Open the file anew where it is unpickled."""
        return LmdbFile, (self.path,)

    def damaged(self, found: str) -> UserError:
        """Return the error that says what was found in place of a sound file."""
        return UserError(f"expected an LMDB file at '{self.path}', found {found}; make or fetch it again")

    def _newest(self) -> _Tree:
        first = self._meta(0)
        second = self._meta(first.page_size)
        tree = max(first, second, key=lambda meta: meta.transaction)
        if tree.page_size != first.page_size:
            raise self.damaged("meta pages that contradict each other")
        if (tree.last + 1) * tree.page_size > self.size:
            raise self.damaged(f"{self.size} bytes for its {tree.last + 1} pages of {tree.page_size}: it is cut off")
        if tree.flags:
            raise self.damaged("keys with several values or of another order, which no set of images has")
        return tree

    def _meta(self, at: int) -> _Tree:
        data = os.pread(self.descriptor, 16 + META.size + 2 * TREE.size + 16, at)
        if len(data) < 16 + META.size + 2 * TREE.size + 16:
            raise self.damaged(f"the end of the file at byte {self.size}")
        magic, version, _, _ = META.unpack_from(data, 16)
        if (magic, version) != (MAGIC, VERSION):
            raise self.damaged("no LMDB magic" if magic != MAGIC else f"version {version} instead of {VERSION}")
        page_size = TREE.unpack_from(data, 16 + META.size)[0]  # the tree of free pages keeps it
        _, flags, depth, branch, leaf, _, entries, root = TREE.unpack_from(data, 16 + META.size + TREE.size)
        last, transaction = struct.unpack_from("<QQ", data, 16 + META.size + 2 * TREE.size)
        if page_size not in (1 << power for power in range(8, 17)):
            raise self.damaged(f"pages of {page_size} bytes")
        return _Tree(page_size, flags, depth, branch + leaf, entries, root, last, transaction)

    def _page(self, number: int) -> bytes:
        if not 2 <= number <= self._tree.last:
            raise self.damaged(f"a page {number} outside its {self._tree.last + 1} pages")
        data = os.pread(self.descriptor, self._page_size, number * self._page_size)
        if len(data) != self._page_size or HEADER.unpack_from(data)[0] != number:
            raise self.damaged(f"another page in place of page {number}")
        return data

    def entries(self) -> Entries:
        """Return all keys and where their values lie, without reading images.

        Raises:
            UserError: a page is damaged, or there are others than the file counts.
        """
        found, seen = _Found(), 0
        todo = [] if self._tree.root == NO_PAGE else [(self._tree.root, 1)]
        while todo:
            number, depth = todo.pop()
            seen += 1
            # A hostile tree may name a page twice; it has then more pages than it counts.
            if depth > MAX_DEPTH or seen > min(self._tree.pages, self._tree.last):
                raise self.damaged("a tree that does not end")
            page = self._page(number)
            kind = HEADER.unpack_from(page)[2] & ~DIRTY
            if kind == BRANCH:
                todo.extend((child, depth + 1) for child in reversed(self._children(page)))
            elif kind == LEAF:
                self._read_leaf(page, number, found)
            else:
                raise self.damaged(f"a page {number} of kind {kind}")
        entries = found.entries()
        if len(entries.ends) != self._tree.entries:
            raise self.damaged(f"{len(entries.ends)} entries where it counts {self._tree.entries}")
        return entries

    def _nodes(self, page: bytes) -> Ints:
        """Return ``[n] int64``, where the nodes of a page begin."""
        number, _, _, lower, _ = HEADER.unpack_from(page)
        if lower < HEADER.size or lower % 2 or lower > len(page):
            raise self.damaged(f"a broken page {number}")
        nodes = np.frombuffer(page, dtype="<u2", count=(lower - HEADER.size) // 2, offset=HEADER.size).astype(np.int64)
        if len(nodes) and (nodes.min() < lower or nodes.max() > len(page) - 8):
            raise self.damaged(f"a broken page {number}")
        return nodes

    def _children(self, page: bytes) -> list[int]:
        heads = self._heads(page, self._nodes(page))[:, :3].tolist()
        return [low | high << 16 | higher << 32 for low, high, higher in heads]

    def _heads(self, page: bytes, nodes: Ints) -> Ints:
        """Return ``[n, 4] int64``: lower and upper half of the size or child, flags, size of the key."""
        return _gathered(page, nodes, 8).view("<u2").astype(np.int64)

    def _read_leaf(self, page: bytes, number: int, found: _Found) -> None:
        nodes = self._nodes(page)
        low, high, flags, key = self._heads(page, nodes).T
        size, big, value = low | high << 16, (flags & BIG) != 0, nodes + 8 + key
        if (flags & SPECIAL).any():
            raise self.damaged("named databases or keys with several values, which no set of images has")
        if (key > MAX_KEY).any() or (value + np.where(big, 8, size) > len(page)).any():
            raise self.damaged(f"a broken page {number}")
        first = np.full(len(nodes), -1, dtype=np.int64)
        first[big] = _gathered(page, value[big], 8).view("<i8")[:, 0]
        if ((first[big] < 2) | (first[big] > self._tree.last)).any():
            raise self.damaged(f"a value outside its {self._tree.last + 1} pages")
        offset = np.where(big, first * self._page_size + HEADER.size, number * self._page_size + value)
        if (offset + size > (self._tree.last + 1) * self._page_size).any():
            raise self.damaged("a value that ends past the end of the file")
        starts, ends = (nodes + 8).tolist(), value.tolist()
        found.texts.append(b"".join([page[start:end] for start, end in zip(starts, ends, strict=True)]))
        found.columns.append(np.stack([key, offset, size, first]))

    def value(self, entries: Entries, row: int) -> bytes:
        """Return the value of entry ``row``.

        Raises:
            CorruptImageError: the pages that should hold it hold something else.
        """
        offset, size, page = int(entries.offset[row]), int(entries.size[row]), int(entries.page[row])
        head = 0 if page < 0 else HEADER.size
        data = os.pread(self.descriptor, head + size, offset - head)
        if len(data) != head + size or (head and not self._holds(data, page, size)):
            raise CorruptImageError(
                f"expected {size} bytes in '{self.path}' at byte {offset}, found the end of the file or another page"
            )
        return data[head:]

    def _holds(self, data: bytes, page: int, size: int) -> bool:
        number, _, flags, count = OVERFLOW.unpack_from(data)
        return number == page and bool(flags & IS_OVERFLOW) and HEADER.size + size <= count * self._page_size


def _gathered(page: bytes, starts: Ints, count: int) -> npt.NDArray[np.uint8]:
    """Return ``[n, count] uint8``: the bytes from each start on."""
    return np.ascontiguousarray(np.frombuffer(page, dtype=np.uint8)[starts[:, None] + np.arange(count)])
