"""Where the teacher's embeddings of a source are kept while they are made and afterwards: memory, or a folder.

A folder holds ``embedded.json``, which says of what teacher and faces, and the arrays beside it. One program at a time
fills it, its processes together; what was interrupted goes on, what is finished is only read.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from proxylesskd.atomic import write_atomically
from proxylesskd.data.source import Source
from proxylesskd.errors import CorruptImageError, UserError
from proxylesskd.lock import locked
from proxylesskd.models.embedder import Embedder, tells_norms
from proxylesskd.processes import rank_and_world, wait_for_all

VIEWS = 2  # as it is, mirrored
FORMAT = 2  # 1 had no norms, and did not look at the content of images
HEADER, LOCK = "embedded.json", ".lock"
ARRAYS = ("views.npy", "labels.npy", "done.npy", "norms.npy")
SAMPLE = 64  # images whose bytes are looked at; faces that are aligned or encoded anew differ nearly all

Header = dict[str, Any]
Tell = Callable[[str], object]


@dataclass(frozen=True)
class Store:
    """Arrays that are filled batch by batch; files that several processes share, or memory.

    Attributes:
        views: ``[N, 2, D] float16`` unit embeddings.
        labels: ``[N] int64``, -1 until read.
        done: ``[batches] uint8``, 1 when written.
        norms: ``[N, 2] float32``, lengths before normalising; None where they are not kept.
    """

    views: npt.NDArray[np.float16]
    labels: npt.NDArray[np.int64]
    done: npt.NDArray[np.uint8]
    norms: npt.NDArray[np.float32] | None

    def flush(self) -> None:
        """Bring files up to date."""
        for array in (self.views, self.labels, self.norms, self.done):
            if isinstance(array, np.memmap):
                array.flush()


def header_of(teacher: Embedder, source: Source, batch: int) -> Header:
    """Return what must be equal for embeddings to be used again, and the teacher's name for people.

    Args:
        teacher: its weights and preprocessing count, by its fingerprint.
        source: names and labels of all images count, and the bytes of some of them.
        batch: the grid that the images are cut into.
    """
    digest = hashlib.sha256(json.dumps(list(source.identities)).encode())
    digest.update(np.ascontiguousarray(source.labels).tobytes())
    for index in range(len(source)):
        digest.update(source.name(index).encode() + b"\0")
    return {
        "format": FORMAT,
        "teacher": teacher.name,
        "teacher_fingerprint": teacher.fingerprint,
        "source": digest.hexdigest(),
        "content": _content(source),
        "images": len(source),
        "dim": teacher.dim,
        "batch": batch,
        "norms": tells_norms(teacher),
    }


def key_of(header: Mapping[str, Any]) -> str:
    """Return a name for the folder that all runs of the same teacher and faces share."""
    fields = {name: value for name, value in header.items() if name != "teacher"}
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()[:32]


def in_memory(teacher: Embedder, source: Source, count: int) -> Store:
    """Return an empty store in memory.

    Args:
        teacher: says D, and whether there are norms.
        source: says N.
        count: of batches.
    """
    images = len(source)
    views = np.zeros((images, VIEWS, teacher.dim), np.float16)
    norms = np.zeros((images, VIEWS), np.float32) if tells_norms(teacher) else None
    return Store(views, np.full(images, -1, np.int64), np.zeros(count, np.uint8), norms)


@contextmanager
def in_folder(folder: Path, header: Header, count: int, tell: Tell = lambda _: None) -> Iterator[Store]:
    """Open a store in a folder, and keep other programs from it while it is being filled.

    Args:
        folder: made unless it is there.
        header: of :func:`header_of`.
        count: of batches.
        tell: called with one line when another program is at work on the folder and must be waited for.

    Raises:
        UserError: the folder holds something else, cannot be written, or has no room.
    """
    first = rank_and_world()[0] == 0
    with _alone(folder, header, tell) if first else nullcontext():
        if first and not _belongs(folder, header):
            _make(folder, header, count)
        wait_for_all()
        yield _arrays(folder, header, count)


def _content(source: Source) -> str:
    """Return a hash of the bytes of at most 64 images, evenly spread."""
    digest = hashlib.sha256()
    for index in np.linspace(0, len(source) - 1, min(SAMPLE, len(source))).astype(int).tolist():
        try:
            data = source.read(index)[0]
        except CorruptImageError:
            data = b""
        digest.update(hashlib.sha256(data).digest())
    return digest.hexdigest()


def _alone(folder: Path, header: Header, tell: Tell) -> AbstractContextManager[None]:
    """Return the folder's lock, unless it is finished: then nobody writes, and perhaps nobody may."""
    if _finished(folder, header):
        return nullcontext()
    return locked(folder / LOCK, lambda: tell(f"waiting for another program that fills '{folder}'"))


def _finished(folder: Path, header: Header) -> bool:
    if not _belongs(folder, header):
        return False
    try:
        return bool(np.load(folder / "done.npy", mmap_mode="r").all())
    except (OSError, ValueError):
        return False  # and what is wrong with it is found out when it is opened


def _arrays(folder: Path, header: Header, count: int) -> Store:
    """Open the arrays of a folder."""
    shapes = _shapes(header, count, norms=_read_header(folder).get("norms", False))
    try:
        whole = bool(np.load(folder / "done.npy", mmap_mode="r").all())
        mode: Literal["r", "r+"] = "r" if whole else "r+"  # a finished folder may be one that we must not write to
        arrays = {name: np.lib.format.open_memmap(folder / name, mode=mode) for name in shapes}
    except (OSError, ValueError) as error:
        raise UserError(f"expected embeddings in '{folder}', found {error}; give another folder") from error
    for name, (kind, shape) in shapes.items():
        if arrays[name].shape != shape or arrays[name].dtype != kind:
            raise UserError(
                f"expected {np.dtype(kind)} {shape} in '{folder / name}', found {arrays[name].dtype} "
                f"{arrays[name].shape}; give another folder"
            )
    return Store(arrays["views.npy"], arrays["labels.npy"], arrays["done.npy"], arrays.get("norms.npy"))


def _shapes(header: Header, count: int, *, norms: bool) -> dict[str, tuple[Any, tuple[int, ...]]]:
    """Return type and shape of each array."""
    images, dim = header["images"], header["dim"]
    shapes: dict[str, tuple[Any, tuple[int, ...]]] = {"views.npy": (np.float16, (images, VIEWS, dim))}
    shapes |= {"labels.npy": (np.int64, (images,)), "done.npy": (np.uint8, (count,))}
    return shapes | ({"norms.npy": (np.float32, (images, VIEWS))} if norms else {})


def _belongs(folder: Path, header: Header) -> bool:
    """Say whether the folder holds embeddings of this teacher and these faces; False if it holds none.

    Raises:
        UserError: it holds something else.
    """
    if folder.is_file():
        raise UserError(f"expected a folder for the embeddings, found the file '{folder}'")
    if not folder.is_dir() or _abandoned(folder):
        return False
    found = _read_header(folder)
    # What was kept before there were norms serves as well where none are asked for.
    later = ("format", "content", "norms") if found.get("format") == 1 else ()
    for key, value in header.items():
        if key != "teacher" and key not in later and found.get(key) != value:
            raise UserError(
                f"expected embeddings with {key} = {value} in '{folder}', found {found.get(key)}: they are of "
                "another teacher, preprocessing or set of faces; give a new folder"
            )
    return True


def _abandoned(folder: Path) -> bool:
    """Say whether the folder holds nothing, or what a program that was killed left before it had made it whole."""
    return all(entry.name in (*ARRAYS, LOCK) or entry.name.startswith(f".{HEADER}.") for entry in folder.iterdir())


def _read_header(folder: Path) -> dict[str, Any]:
    found: Any = None
    with suppress(OSError, ValueError, RecursionError):  # no header is as bad as another one
        found = json.loads((folder / HEADER).read_text(encoding="utf-8"))
    if not isinstance(found, dict):
        raise UserError(f"expected embeddings or nothing in '{folder}', found other files; give a new folder")
    return found


def _make(folder: Path, header: Header, count: int) -> None:
    shapes = _shapes(header, count, norms=header["norms"])
    needed = sum(int(np.prod(shape)) * np.dtype(kind).itemsize for kind, shape in shapes.values())
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise UserError(f"expected {needed / 1e9:.1f} GB of room in '{folder}', found {free / 1e9:.1f} GB")
    for name, (kind, shape) in shapes.items():
        array = np.lib.format.open_memmap(folder / name, mode="w+", dtype=kind, shape=shape)
        if name == "labels.npy":
            array[:] = -1
        array.flush()
    # Last, so that a folder with a header is a whole one.
    write_atomically(folder / HEADER, json.dumps(header, indent=1).encode())
