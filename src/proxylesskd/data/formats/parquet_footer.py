"""The end of a Parquet file, which says what columns it has and where the pages of each lie.

Read here and not by pyarrow, because that library ends the process where what a damaged file says of a column does not
fit together.
"""

from __future__ import annotations

import struct as structs
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from proxylesskd.data.formats.parquet_pages import Chunk, take
from proxylesskd.data.formats.thrift import STRUCT, CutOff, Damaged, Reader, Struct
from proxylesskd.errors import UserError

MAGIC, ENCRYPTED = b"PAR1", b"PARE"
TAIL = structs.Struct("<I4s")
MAX_FOOTER_BYTES = 128 << 20
MAX_COLUMNS, MAX_GROUPS = 10_000, 1 << 22
REQUIRED, OPTIONAL, REPEATED = range(3)
INT32, INT64, BYTE_ARRAY = 1, 2, 6
TEXT_CONVERTED, TEXT_LOGICAL = {0, 4}, {1, 4}
WHOLE_CONVERTED, WHOLE_LOGICAL = set(range(11, 19)), {10}
CODECS = ("UNCOMPRESSED", "SNAPPY", "GZIP", "LZO", "BROTLI", "LZ4", "ZSTD", "LZ4_RAW")
ENCODINGS = {5: "DELTA_BINARY_PACKED", 6: "DELTA_LENGTH_BYTE_ARRAY", 7: "DELTA_BYTE_ARRAY", 9: "BYTE_STREAM_SPLIT"}


@dataclass(frozen=True)
class Leaf:
    """A column of values.

    Attributes:
        path: its names from the top down.
        kind: ``"bytes"``, ``"text"``, ``"number"``, or empty for all else.
        stored: Parquet's type, ``INT32`` or ``INT64`` or ``BYTE_ARRAY`` or another.
        levels: how many of its names may be null.
        repeated: it is, or lies in, a list.
    """

    path: tuple[str, ...]
    kind: str
    stored: int
    levels: int
    repeated: bool


@dataclass(frozen=True)
class Footer:
    """What a file says of itself.

    Attributes:
        rows: number of rows.
        leaves: L columns.
        group_rows: rows of each of G row groups.
        columns: the struct that says where a column's pages lie, of each row group and column, ``G`` times ``L``;
            only columns of bytes, text and numbers are kept.
        metadata: further texts, by their key.
    """

    rows: int
    leaves: list[Leaf]
    group_rows: list[int]
    columns: list[dict[int, tuple[int, ...]]]
    metadata: dict[bytes, bytes]


def _kind(element: Struct) -> str:
    stored, converted, logical = element.get(1), element.get(6), element.get(10)
    said = next(iter(logical)) if isinstance(logical, dict) and logical else None
    if stored == BYTE_ARRAY:
        if converted in TEXT_CONVERTED or said in TEXT_LOGICAL:
            return "text"
        return "bytes" if converted is None and said is None else ""
    whole = (converted is None and said is None) or converted in WHOLE_CONVERTED or said in WHOLE_LOGICAL
    return "number" if stored in (INT32, INT64) and whole else ""


def _whole(fields: Struct, number: int, default: int | None = None) -> int:
    value = fields.get(number, default)
    if type(value) is not int or value < 0:
        raise Damaged(f"{str(value)[:20]} as field {number}")
    return value


def _name(element: Struct) -> str:
    name = element.get(4)
    if not isinstance(name, bytes):
        raise Damaged("a column without a name")
    return name.decode()


def _leaves(elements: Iterator[Struct], count: int, path: tuple[str, ...], levels: int, repeated: bool) -> list[Leaf]:
    """Return the columns below ``count`` elements of the schema, which stands there from the top down."""
    found: list[Leaf] = []
    for _ in range(count):
        element = next(elements, None)
        if element is None or len(path) > 20:
            raise Damaged("a schema that does not fit together")
        how, below = _whole(element, 3, REQUIRED), _whole(element, 5, 0)
        inner = ((*path, _name(element)), levels + (how == OPTIONAL), repeated or how == REPEATED)
        if below:
            found += _leaves(elements, below, *inner)
        else:
            found.append(Leaf(inner[0], _kind(element), _whole(element, 1), inner[1], inner[2]))
    return found


def _schema(reader: Reader) -> list[Leaf]:
    count, kind = reader.elements()
    if kind != STRUCT or not 0 < count <= MAX_COLUMNS:
        raise Damaged(f"a schema of {count} elements")
    root, *elements = [reader.struct() for _ in range(count)]
    rest = iter(elements)
    leaves = _leaves(rest, _whole(root, 5, 0), (), 0, False)
    if next(rest, None) is not None:
        raise Damaged("a schema that does not fit together")
    return leaves


def _column(chunk: object, leaf: Leaf) -> tuple[int, ...]:
    """Return codec, values, first byte, bytes, nulls (-1: unknown) and encodings of a column of a row group."""
    told = chunk.get(3) if isinstance(chunk, dict) else None
    if not isinstance(told, dict) or not isinstance(chunk, dict) or chunk.get(1):
        raise Damaged("a column that lies in another file or nowhere")
    names = told.get(3)
    if not isinstance(names, list) or names != [name.encode() for name in leaf.path] or told.get(1) != leaf.stored:
        raise Damaged("a column that is not the one of the schema")
    first, dictionary = _whole(told, 9), _whole(told, 11, 0)
    start = dictionary if 0 < dictionary < first else first
    statistics, encodings = told.get(12), told.get(2)
    nulls = statistics.get(3, -1) if isinstance(statistics, dict) else -1
    coded = [code for code in encodings if type(code) is int] if isinstance(encodings, list) else []
    return _whole(told, 4), _whole(told, 5), start, _whole(told, 7), nulls if type(nulls) is int else -1, *coded


def _groups(reader: Reader, leaves: list[Leaf]) -> Iterator[tuple[int, dict[int, tuple[int, ...]]]]:
    count, kind = reader.elements()
    if count and (kind != STRUCT or count > MAX_GROUPS):
        raise Damaged(f"{count} row groups")
    kept = [place for place, leaf in enumerate(leaves) if leaf.kind and not leaf.repeated]
    for _ in range(count):
        reader.left = Reader(b"").left
        group = reader.struct()
        chunks = group.get(1)
        if not isinstance(chunks, list) or len(chunks) != len(leaves):
            raise Damaged("a row group without all columns")
        yield _whole(group, 3), {place: _column(chunks[place], leaves[place]) for place in kept}


def _metadata(reader: Reader) -> dict[bytes, bytes]:
    count, kind = reader.elements()
    if count and (kind != STRUCT or count > MAX_COLUMNS):
        raise Damaged(f"{count} further texts")
    found = [reader.struct() for _ in range(count)]
    return {f[1]: f[2] for f in found if isinstance(f.get(1), bytes) and isinstance(f.get(2), bytes)}


def _parse(data: bytes) -> Footer:
    reader, number = Reader(data), 0
    footer = Footer(0, [], [], [], {})
    rows = -1
    while (found := reader.field(number)) is not None:
        number, kind = found
        if number == 2:
            footer.leaves.extend(_schema(reader))
        elif number == 3:
            rows = _whole({3: reader.value(kind)}, 3)
        elif number == 4:
            for count, columns in _groups(reader, footer.leaves):
                footer.group_rows.append(count)
                footer.columns.append(columns)
        elif number == 5:
            footer.metadata.update(_metadata(reader))
        else:
            reader.value(kind)
    if rows != sum(footer.group_rows):
        raise Damaged(f"{rows} rows, and {sum(footer.group_rows)} in its row groups")
    return Footer(rows, footer.leaves, footer.group_rows, footer.columns, footer.metadata)


def read_footer(path: Path) -> Footer:
    """Read what a file says of itself.

    Raises:
        UserError: no Parquet file, an encrypted, truncated or damaged one.
    """
    expected = f"expected a whole Parquet file at '{path}'"
    try:
        size = path.stat().st_size
    except OSError as error:
        raise UserError(f"{expected}, found: {error.strerror or error}") from error
    tail = take(path, max(size - TAIL.size, 0), TAIL.size)
    length, magic = TAIL.unpack(tail) if len(tail) == TAIL.size else (0, b"")
    if magic != MAGIC:
        found = "an encrypted one" if magic == ENCRYPTED else "another end"
        raise UserError(f"{expected}, found {found}; copy or fetch the file again")
    if not 0 < length <= min(MAX_FOOTER_BYTES, size - TAIL.size - len(MAGIC)):
        raise UserError(f"{expected}, found {length} bytes about its columns in {size}; fetch the file again")
    try:
        return _parse(take(path, size - TAIL.size - length, length))
    except CutOff:
        raise UserError(f"{expected}, found its end cut off; fetch the file again") from None
    except (Damaged, UnicodeDecodeError) as found:
        raise UserError(f"{expected}, found {str(found)[:200]}; fetch the file again") from None


def chunks_of(path: Path, footer: Footer, leaf: int) -> list[Chunk]:
    """Return where a column lies in each row group that has rows.

    Raises:
        UserError: outside the file, or stored in a way that is not understood.
    """
    size = path.stat().st_size
    filled = [(rows, c[leaf]) for rows, c in zip(footer.group_rows, footer.columns, strict=True) if rows]
    return [_chunk(path, size, rows, column, footer.leaves[leaf]) for rows, column in filled]


def _chunk(path: Path, size: int, rows: int, column: tuple[int, ...], leaf: Leaf) -> Chunk:
    codec, values, start, length, _, *encodings = column
    name = CODECS[codec] if codec < len(CODECS) else f"codec {codec}"
    unknown = [ENCODINGS[code] for code in encodings if code in ENCODINGS]
    if unknown or name in ("LZO", "LZ4") or codec >= len(CODECS):
        raise UserError(
            f"expected {'.'.join(leaf.path)} stored plain or by dictionary in '{path}', found "
            f"{', '.join(unknown) or name}; rewrite it by pyarrow.parquet.write_table(table, path)"
        )
    if values != rows or start + length > size:
        raise UserError(
            f"expected {rows} values within the {size} bytes of '{path}', found {values} up to byte {start + length}; "
            "fetch the file again"
        )
    return Chunk(path, start, length, rows, name, leaf.levels, leaf.stored)
