"""Verification sets: pairs of faces that are, or are not, of one identity."""

from __future__ import annotations

import csv
import os
import pickle
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import numpy.typing as npt

from proxylesskd.data.bin_pickle import read_bin
from proxylesskd.data.decode import decode, encode_png
from proxylesskd.data.draw_pairs import draw_pairs
from proxylesskd.data.formats.folder import read_file
from proxylesskd.data.pair_lists import Row, csv_rows, lfw_rows
from proxylesskd.data.source import Source
from proxylesskd.errors import CorruptImageError, UserError

SIZE = 112
FOLDS = 10
MAX_IMAGES = 100_000  # 3.8 GB of pixels
MAX_LIST_BYTES = 256 << 20


@dataclass(frozen=True)
class Pairs:
    """A verification set. Every image is held once, however many pairs it is in.

    Attributes:
        name: what a person would call the set.
        images: ``[M, 3, 112, 112] uint8`` RGB.
        first: ``[P] int64``, index of each pair's first image.
        second: ``[P] int64``, index of each pair's second image.
        same: ``[P] bool``, whether both are of one identity.
        fold: ``[P] int64``, fold of each pair.
        identities: ``[M] int64``, identity of each image, -1 where unknown; None where all are unknown.
        image_names: M names; paths relative to the root of the list where there is one.
    """

    name: str
    images: npt.NDArray[np.uint8]
    first: npt.NDArray[np.int64]
    second: npt.NDArray[np.int64]
    same: npt.NDArray[np.bool_]
    fold: npt.NDArray[np.int64]
    identities: npt.NDArray[np.int64] | None
    image_names: list[str]

    def __len__(self) -> int:
        """Return the number of pairs P."""
        return len(self.same)


def _decode_all(count: int, read: Callable[[int], bytes]) -> tuple[npt.NDArray[np.uint8], dict[int, CorruptImageError]]:
    """Decode ``count`` images on a few threads; return them and what is wrong with the corrupt ones."""
    if count > MAX_IMAGES:
        raise UserError(f"expected at most {MAX_IMAGES} different images in a verification set, found {count}")
    images = np.zeros((count, 3, SIZE, SIZE), dtype=np.uint8)

    def work(index: int) -> CorruptImageError | None:
        try:
            images[index] = decode(read(index), SIZE)
        except CorruptImageError as error:
            return error
        return None

    with ThreadPoolExecutor(max_workers=2) as pool:
        errors = list(pool.map(work, range(count)))
    return images, {index: error for index, error in enumerate(errors) if error is not None}


def _decode_whole(where: Path, names: Sequence[str], read: Callable[[int], bytes]) -> npt.NDArray[np.uint8]:
    images, corrupt = _decode_all(len(names), read)
    if corrupt:
        listed = ", ".join(names[i] for i in list(corrupt)[:3]) + (", …" if len(corrupt) > 3 else "")
        reason = next(iter(corrupt.values()))
        raise UserError(
            f"expected whole images in the verification set '{where}', found {len(corrupt)} corrupt: "
            f"{listed} ({reason}); an evaluation set must be complete, fetch it again"
        )
    return images


def even_folds(count: int, folds: int = FOLDS) -> npt.NDArray[np.int64]:
    """Return ``[count] int64``: contiguous folds as even as possible, as InsightFace's unshuffled KFold cuts them."""
    return np.repeat(np.arange(folds, dtype=np.int64), [len(part) for part in np.array_split(range(count), folds)])


def _index(items: Sequence[object]) -> tuple[list[int], npt.NDArray[np.int64]]:
    """Return where each distinct item stands first, and for every item the number of its distinct one."""
    number: dict[object, int] = {}
    where: list[int] = []
    of = np.empty(len(items), dtype=np.int64)
    for position, item in enumerate(items):
        if item not in number:
            number[item] = len(where)
            where.append(position)
        of[position] = number[item]
    return where, of


def _read_insightface(path: Path) -> Pairs:
    encoded, same = read_bin(path)
    where, of = _index(encoded)
    names = [f"image {position}" for position in where]
    images = _decode_whole(path, names, lambda i: encoded[where[i]])
    flags = np.array(same, dtype=np.bool_)
    return Pairs(path.stem, images, of[0::2], of[1::2], flags, even_folds(len(same)), None, names)


def _identities(names: Sequence[str], rows: Sequence[Row]) -> npt.NDArray[np.int64] | None:
    """Take an image's folder for its identity, unless a pair contradicts it."""
    folder = {name: str(PurePosixPath(name).parent) for name in names}
    if any((folder[row.first] == folder[row.second]) != row.same for row in rows):
        return None
    return _index([folder[name] for name in names])[1]


def _check_present(root: Path, names: Sequence[str]) -> None:
    missing = [name for name in names if not (root / name).is_file()]
    if missing:
        raise UserError(
            f"expected the images of the list below '{root}', found {len(missing)} of {len(names)} missing, first "
            f"'{missing[0]}'; give the folder of the images as root"
        )


def _read_list(path: Path, root: Path) -> Pairs:
    if path.stat().st_size > MAX_LIST_BYTES:
        raise UserError(f"expected a list of pairs in '{path}', found more than {MAX_LIST_BYTES >> 20} MiB")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"expected a list of pairs as UTF-8 text in '{path}', found other bytes") from error
    try:
        rows = csv_rows(text) if text.startswith("first,") else lfw_rows(text, root)
    except UserError as error:
        raise UserError(f"'{path}': {error}") from error
    if not rows:
        raise UserError(f"expected pairs in '{path}', found none")
    return _from_rows(path, root, rows)


def _from_rows(path: Path, root: Path, rows: Sequence[Row]) -> Pairs:
    flat = [name for row in rows for name in (row.first, row.second)]
    where, of = _index(flat)
    names = [flat[position] for position in where]
    _check_present(root, names)
    images = _decode_whole(path, names, lambda i: read_file(root / names[i]))
    folds = [row.fold for row in rows]
    fold = even_folds(len(rows)) if None in folds else np.array(folds, dtype=np.int64)
    same = np.array([row.same for row in rows], dtype=np.bool_)
    return Pairs(path.stem, images, of[0::2], of[1::2], same, fold, _identities(names, rows), names)


def read_pairs(path: Path | str, root: Path | str | None = None) -> Pairs:
    """Read a verification set.

    Args:
        path: InsightFace's ``.bin`` (nothing of it is executed), LFW's ``pairs.txt`` (first line ``10 300``, then
            ``Name 1 4`` or ``Name 1 Other 2`` for ``Name/Name_0001.jpg`` or ``.png``), or a CSV with the header
            ``first,second,same[,fold]``.
        root: folder to which a list's paths are relative; by default that of the list.

    Returns:
        The set; every different image decoded once. A set without folds is cut into ten contiguous ones.

    Raises:
        UserError: no such file, not of these kinds, images missing or corrupt (a set must be whole).
    """
    path = Path(path)
    try:
        if not path.is_file():
            raise UserError(f"expected a verification set (.bin, pairs.txt, .csv), found no file '{path}'")
        if path.suffix == ".bin":
            return _read_insightface(path)
        return _read_list(path, path.parent if root is None else Path(root))
    except OSError as error:  # a list may name what no file system takes
        raise UserError(f"expected a verification set that can be read at '{path}', found: {error}") from error


def make_pairs(source: Source, *, genuine: int, impostor: int, folds: int = FOLDS, seed: int = 0) -> Pairs:
    """Draw a verification set from a source.

    Folds share no identity, as in LFW's view 2, and no pair is drawn twice; corrupt images are never drawn.

    Args:
        source: labelled faces.
        genuine: number of pairs of one identity.
        impostor: number of pairs of two identities.
        folds: number of folds.
        seed: the set is a pure function of the source and the seed.

    Raises:
        UserError: the source has too few identities or images for so many different pairs.
    """
    usable = np.ones(len(source), dtype=np.bool_)
    while True:
        drawn, same, fold = draw_pairs(
            source.labels, usable, genuine=genuine, impostor=impostor, folds=folds, seed=seed
        )
        chosen, of = np.unique(drawn, return_inverse=True)
        images, corrupt = _decode_all(len(chosen), lambda i, c=chosen: source.read(int(c[i]))[0])  # type: ignore[misc]
        if not corrupt:
            break
        usable[chosen[list(corrupt)]] = False
    of = of.reshape(drawn.shape)
    names = [source.name(int(i)) for i in chosen]
    return Pairs("pairs", images, of[:, 0], of[:, 1], same, fold, source.labels[chosen], names)


def write_bin(pairs: Pairs, path: Path | str) -> None:
    """Write InsightFace's ``.bin``, fold by fold; the images as PNG, so that it reads back without loss."""
    order = np.argsort(pairs.fold, kind="stable")
    with ThreadPoolExecutor(max_workers=2) as pool:
        encoded = list(pool.map(encode_png, pairs.images))
    flat = np.stack([pairs.first[order], pairs.second[order]], axis=1).ravel().tolist()
    content = ([encoded[i] for i in flat], pairs.same[order].tolist())
    Path(path).write_bytes(pickle.dumps(content, protocol=4))


def write_pairs_csv(pairs: Pairs, path: Path | str, *, root: Path | str | None = None) -> None:
    """Write the list ``first,second,same,fold`` by the images' names.

    Args:
        pairs: the set.
        path: the CSV to write.
        root: folder to which the names are relative; the list then holds paths relative to its own folder, and reads
            back without being told the root. Without it the list holds the names as they are.
    """
    path = Path(path)
    names = pairs.image_names if root is None else [_relative(Path(root) / n, path) for n in pairs.image_names]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["first", "second", "same", "fold"])
        for first, second, same, fold in zip(pairs.first, pairs.second, pairs.same, pairs.fold, strict=True):
            writer.writerow([names[first], names[second], int(same), fold])


def _relative(image: Path, path: Path) -> str:
    return Path(os.path.relpath(image, path.parent)).as_posix()
