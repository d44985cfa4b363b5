"""What the shards of a WebDataset hold: found by one walk over their headers and labels, then kept beside them."""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from proxylesskd.data.formats.folder import IMAGE_SUFFIXES
from proxylesskd.data.formats.name_list import pack_names, unpack_names
from proxylesskd.data.formats.stored_index import load_index, store_index
from proxylesskd.data.formats.tar_file import Member, TarFile
from proxylesskd.errors import UserError

Ints = npt.NDArray[np.int64]
IMAGES = frozenset(suffix[1:] for suffix in IMAGE_SUFFIXES)
TEXTS = frozenset(("cls", "json", "txt"))
COLUMNS = ("shard", "start", "offset", "size", "labels")
MAX_NUMBER = 1 << 31


@dataclass(frozen=True)
class ShardIndex:
    """Where N images lie and whose they are.

    Attributes:
        shard: ``[N] int64``, which shard.
        start: ``[N] int64``, byte of the header.
        offset: ``[N] int64``, byte of the image.
        size: ``[N] int64``, bytes of the image.
        labels: ``[N] int64`` in [0, C).
        identities: C names.
    """

    shard: Ints
    start: Ints
    offset: Ints
    size: Ints
    labels: Ints
    identities: Sequence[str]


class _Identity(NamedTuple):
    """What a sample says of its identity: a number, a name, or both."""

    number: int | None = None
    name: str | None = None


def read_index(shards: Sequence[Path]) -> ShardIndex:
    """Return the index of some shards: the one that is stored for them as they are, or a new one.

    Raises:
        UserError: a shard is no tar, truncated or hostile, or a sample has no image or no identity.
    """
    stored = load_index(shards)
    index = None if stored is None else _restored(stored, len(shards))
    if index is None:
        index = _built(shards)
        names = np.frombuffer(pack_names(index.identities), dtype=np.uint8)
        store_index(shards, {name: getattr(index, name) for name in COLUMNS} | {"identities": names})
    return index


def _restored(stored: dict[str, npt.NDArray[Any]], shards: int) -> ShardIndex | None:
    """Return a stored index if it is sound: it is a file like others, which anybody may have written."""
    if set(stored) != {*COLUMNS, "identities"} or len({stored[name].shape for name in COLUMNS}) != 1:
        return None
    columns = {name: stored[name] for name in COLUMNS}
    if any(column.ndim != 1 or column.dtype != np.int64 or (column < 0).any() for column in columns.values()):
        return None
    identities = unpack_names(stored["identities"].tobytes())
    labels, shard = stored["labels"], stored["shard"]
    if (
        identities is None
        or not len(labels)
        or not np.array_equal(np.unique(labels), np.arange(len(identities)))
        or shard.max() >= shards
    ):
        return None
    return ShardIndex(identities=identities, **{name: columns[name].astype(np.int64) for name in COLUMNS})


def _built(shards: Sequence[Path]) -> ShardIndex:
    shard, start, offset, size, numbers, named = (array("q") for _ in range(6))
    names: dict[str | None, int] = {None: -1}
    for place, path in enumerate(shards):
        for image, identity in _samples(TarFile(path)):
            shard.append(place)
            start.append(image.start)
            offset.append(image.offset)
            size.append(image.size)
            numbers.append(-1 if identity.number is None else identity.number)
            named.append(names.setdefault(identity.name, len(names) - 1))
    if not len(shard):
        raise UserError(f"expected images in '{shards[0]}' and its like, found none; give shards with .jpg and .cls")
    told = [name for name in names if name is not None]
    labels, identities = _labels(_held(numbers), _held(named), told, shards[0])
    return ShardIndex(_held(shard), _held(start), _held(offset), _held(size), labels, identities)


def _held(values: array[int]) -> Ints:
    return np.frombuffer(values, dtype=np.int64)


def _samples(file: TarFile) -> Iterator[tuple[Member, _Identity]]:
    """Yield the image and the identity of each group of files with one key that stand side by side."""
    key, images, texts = "", list[Member](), dict[str, bytes]()
    for member, window in file.members():
        prefix, suffix = _split(member.name)
        if suffix not in IMAGES and suffix not in TEXTS:
            continue
        if prefix != key:
            if key:
                yield _sample(file, key, images, texts)
            key, images, texts = prefix, [], {}
        if suffix in IMAGES:
            images.append(member)
        elif suffix in texts:
            raise file.damaged(member.start, f"a second .{suffix} of the sample '{key}'")
        else:
            texts[suffix] = window.text(member)
    if key:
        yield _sample(file, key, images, texts)


def _split(name: str) -> tuple[str, str]:
    """Return key and suffix; the suffix of a file without a key is empty."""
    base = name.rfind("/") + 1
    dot = name.find(".", base)
    return (name[:dot], name[dot + 1 :].lower()) if dot > base else ("", "")


def _sample(file: TarFile, key: str, images: list[Member], texts: dict[str, bytes]) -> tuple[Member, _Identity]:
    if len(images) != 1:
        suffixes = ", ".join(sorted(IMAGES))
        raise UserError(f"expected one image ({suffixes}) in sample '{key}' of '{file.path}', found {len(images)}")
    try:
        identity = _identity(texts)
    except (ValueError, RecursionError) as error:
        raise UserError(f"expected an identity in sample '{key}' of '{file.path}', found {error}") from error
    return images[0], identity


def _identity(texts: dict[str, bytes]) -> _Identity:
    told = _of_json(texts["json"]) if "json" in texts else _Identity()
    if "cls" in texts:
        return told._replace(number=_of_cls(texts["cls"]))
    if told == _Identity() and "txt" in texts:
        return _Identity(name=_name(texts["txt"].decode().strip()))
    if told == _Identity():
        raise ValueError("neither .cls nor .txt nor a .json with identity, label or class")
    return told


def _of_cls(data: bytes) -> int:
    text = data.strip()
    if not text.isdigit() or len(text) > 10:
        raise ValueError(f".cls {text[:40]!r}, which is no number")
    return _number(int(text))


@lru_cache(maxsize=4096)  # neighbours are mostly of one identity
def _of_json(data: bytes) -> _Identity:
    told = json.loads(data)
    if not isinstance(told, dict):
        raise ValueError(f".json {data[:40]!r}, which is no object")
    identity = _Identity()
    for field in ("class", "label", "identity"):
        value = told.get(field)
        if isinstance(value, str):
            identity = identity._replace(name=_name(value))
        elif isinstance(value, int) and not isinstance(value, bool):
            identity = identity._replace(number=_number(value))
    return identity


def _number(value: int) -> int:
    if not 0 <= value < MAX_NUMBER:
        raise ValueError(f"the number {str(value)[:40]}, which is not in [0, 2^31)")
    return value


def _name(text: str) -> str:
    text.encode()  # a lone surrogate, which JSON can hold, is no text
    if not text:
        raise ValueError("an empty name")
    return text


def _labels(numbers: Ints, named: Ints, names: list[str], path: Path) -> tuple[Ints, list[str]]:
    """Return labels ``[N] int64`` and names: in the order of the numbers, else in that of the names.

    Args:
        numbers: ``[N] int64``, -1 where there is none.
        named: ``[N] int64``, places in ``names``; -1 where there is none.
        names: as they came.
        path: what is being read.
    """
    numbered, has_name = numbers >= 0, named >= 0
    if not (numbered.all() or has_name.all()) or (has_name.any() and not has_name.all()):
        raise UserError(
            f"expected identities told in one way in the shards at '{path}', found "
            f"{int(numbered.sum())} numbers and {int(has_name.sum())} names for {len(numbers)} images"
        )
    if not numbered.all():
        order = sorted(range(len(names)), key=names.__getitem__)
        rank = np.empty(len(names), dtype=np.int64)
        rank[order] = np.arange(len(names))
        return rank[named], [names[place] for place in order]
    values, labels = np.unique(numbers, return_inverse=True)  # [C], [N]
    if not has_name.any():
        return labels.astype(np.int64), [str(value) for value in values]
    first = np.empty(len(values), dtype=np.int64)
    first[labels] = named
    if not np.array_equal(first[labels], named) or len(np.unique(first)) != len(first):
        raise UserError(f"expected one name for each number in the shards at '{path}', found others")
    return labels.astype(np.int64), [names[place] for place in first]
