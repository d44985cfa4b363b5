"""Where embeddings of an evaluation set are kept: arrays of a folder under a header that says what they are of."""

from __future__ import annotations

import hashlib
import json
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from proxylesskd.atomic import write_atomically
from proxylesskd.errors import UserError
from proxylesskd.models.embedder import Embedder

HEADER = "embeddings.json"


@dataclass(frozen=True)
class Kept:
    """The arrays of a folder, or of memory; ``done [N] uint8`` is 1 where an image is written."""

    units: npt.NDArray[np.float32]
    norms: npt.NDArray[np.float32] | None
    done: npt.NDArray[np.uint8]

    @classmethod
    def in_memory(cls, header: dict[str, Any]) -> Kept:
        """Return zeros of a header's shapes, none of them done."""
        arrays: dict[str, Any] = {name: np.zeros(shape, kind) for name, (kind, shape) in _shapes(header).items()}
        return cls(arrays["units"], arrays.get("norms"), arrays["done"])

    @classmethod
    def in_folder(cls, place: Path, header: dict[str, Any], mode: Literal["r", "r+"]) -> Kept:
        """Open the files of a folder that has its header.

        Raises:
            UserError: a file is missing or of another shape.
        """
        arrays: dict[str, Any] = {}
        for name, (kind, shape) in _shapes(header).items():
            try:
                arrays[name] = np.load(place / f"{name}.npy", mmap_mode=mode, allow_pickle=False)
            except (OSError, ValueError) as error:
                raise UserError(f"expected embeddings in '{place}', found {error}; remove that folder") from error
            if arrays[name].shape != shape or arrays[name].dtype != kind:
                raise UserError(
                    f"expected {np.dtype(kind)} {shape} in '{place / name}.npy', found {arrays[name].dtype} "
                    f"{arrays[name].shape}; remove that folder"
                )
        return cls(arrays["units"], arrays.get("norms"), arrays["done"])

    def flush(self) -> None:
        """Bring files up to date; what says that an image is done comes last."""
        for array in (self.units, self.norms, self.done):
            if isinstance(array, np.memmap):
                array.flush()


def key_of(header: dict[str, Any]) -> str:
    """Return the name of a header's folder: 32 hexadecimal digits of its hash."""
    return hashlib.sha256(json.dumps(header, sort_keys=True).encode()).hexdigest()[:32]


def _shapes(header: dict[str, Any]) -> dict[str, tuple[type, tuple[int, ...]]]:
    images, views, dim = header["images"], header["views"], header["dim"]
    shapes: dict[str, tuple[type, tuple[int, ...]]] = {"units": (np.float32, (images, views, dim))}
    shapes |= {"norms": (np.float32, (images, views))} if header["norms"] else {}
    return shapes | {"done": (np.uint8, (images,))}


def is_made(place: Path, header: dict[str, Any]) -> bool:
    """Say whether a folder has this header."""
    found = None
    with suppress(OSError, ValueError, RecursionError):  # no header, or a broken one, is made anew
        found = json.loads((place / HEADER).read_text(encoding="utf-8"))
    return bool(found == header)


def make(place: Path, header: dict[str, Any]) -> None:
    """Write the files of a folder, none of the images done.

    Raises:
        UserError: the disk has no room for them.
    """
    needed = sum(int(np.prod(shape)) * np.dtype(kind).itemsize for kind, shape in _shapes(header).values())
    if needed > (free := shutil.disk_usage(place).free):
        raise UserError(f"expected {needed / 1e9:.1f} GB of room in '{place}', found {free / 1e9:.1f} GB")
    for name, (kind, shape) in _shapes(header).items():
        np.lib.format.open_memmap(place / f"{name}.npy", mode="w+", dtype=kind, shape=shape).flush()
    # Last, so that a folder with a header is a whole one.
    write_atomically(place / HEADER, json.dumps(header, indent=1).encode())


def forget(folder: Path, embedder: Embedder) -> None:
    """Remove what a folder keeps of a model that nobody will ask for again."""
    for path in folder.glob(f"*/{HEADER}"):
        with suppress(OSError, ValueError, RecursionError):
            if json.loads(path.read_text(encoding="utf-8")).get("model") == embedder.fingerprint:
                shutil.rmtree(path.parent, ignore_errors=True)
