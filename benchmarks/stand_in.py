"""Stand-ins of any size for what a training needs: a classifier file, faces whose identities are among its names, and
what a teacher said about faces."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F

from proxylesskd.classifier.embedded import EmbeddedSource
from proxylesskd.classifier.names import Names
from proxylesskd.classifier.stored_rows import layout_of, parts, stored_as
from proxylesskd.classifier.tensor_file import TensorWriter

BLOCK = 8192


def write_rows(path: Path, count: int, dim: int, store: str, seed: int = 0) -> None:
    """Write a classifier of ``count`` random unit rows named "0", "1", …, block by block."""
    names = Names.pack([str(number) for number in range(count)])
    beside = {"identities": names.text, "identity_ends": names.ends}
    layout = layout_of(store, count, dim) | {name: (t.dtype, tuple(t.shape)) for name, t in beside.items()}
    metadata = {"format": "proxylesskd-classifier-2", "provenance": '{"how": "drawn at random"}'}
    generator = torch.Generator().manual_seed(seed)
    with TensorWriter(path, layout, metadata) as file:
        for start in range(0, count, BLOCK):
            rows = torch.randn(min(BLOCK, count - start), dim, generator=generator)
            for name, piece in parts(stored_as(F.normalize(rows, dim=1), store)).items():
                file.put(name, start, piece)
        for name, tensor in beside.items():
            file.put(name, 0, tensor)


def write_faces(folder: Path, identities: int, images: int, among: int, seed: int = 0) -> None:
    """Write smooth random JPEGs of 112 x 112, ``images`` for each of some names drawn from ``0 … among - 1``."""
    generator = np.random.default_rng(seed)
    for number in generator.choice(among, size=min(identities, among), replace=False).tolist():
        home = folder / str(number)
        home.mkdir(parents=True)
        for image in range(images):
            coarse = generator.integers(0, 256, (8, 8, 3), dtype=np.uint8)
            cv2.imwrite(str(home / f"{image}.jpg"), cv2.resize(coarse, (112, 112), interpolation=cv2.INTER_CUBIC))


def write_embedded(folder: Path, images: int, dim: int, identities: int, seed: int = 0) -> EmbeddedSource:
    """Write random unit embeddings of two views of every image, and their lengths; return them memory-mapped."""
    require_room(folder, images * 2 * (2 * dim + 4))
    generator = np.random.default_rng(seed)
    shapes = {"views": (np.float16, (images, 2, dim)), "norms": (np.float32, (images, 2))}
    arrays = {
        name: np.lib.format.open_memmap(folder / f"{name}.npy", mode="w+", dtype=kind, shape=shape)
        for name, (kind, shape) in shapes.items()
    }
    for start in range(0, images, BLOCK):
        block = generator.standard_normal((min(BLOCK, images - start), 2, dim), dtype=np.float32)
        lengths = np.linalg.norm(block, axis=2)
        arrays["norms"][start : start + len(block)] = lengths
        arrays["views"][start : start + len(block)] = block / lengths[:, :, None]
    labels = generator.integers(0, identities, images)
    names = [str(number) for number in range(identities)]
    return EmbeddedSource(arrays["views"], labels, names, "drawn at random", "", arrays["norms"])


def require_room(folder: Path, size: int) -> None:
    """End here if the disk has no room."""
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if size > free:
        raise SystemExit(f"needs {size / 2**30:.1f} GiB in {folder}, found {free / 2**30:.1f}; give another --folder")
