"""Small pictures of people whom an embedder confuses now and then, and what loops find about them."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from proxylesskd.data.decode import decode
from tests.faces import ColourEmbedder

Embeddings = npt.NDArray[np.float32]


class Blind(ColourEmbedder):
    """Sees a few of the colours only."""

    dim = 12
    name = "blind"
    fingerprint = "blind-1"

    def embed(self, images: Tensor) -> Tensor:
        return F.normalize(super().embed(images)[:, :12] + 1e-3, dim=1)


class Tinted(Blind):
    """Sees the same a little otherwise."""

    name = "tinted"
    fingerprint = "tinted-1"

    def embed(self, images: Tensor) -> Tensor:
        return F.normalize(super().embed(images) + torch.linspace(-0.2, 0.2, 12), dim=1)


def name_of(identity: int, number: int) -> str:
    return f"id-{identity:03d}/{number}.png"


def write_people(folder: Path, identities: int, images: int, noise: float = 35.0) -> Path:
    """Write PNGs of 7x7 colours: a pattern for the identity, noise for the image."""
    for identity in range(identities):
        random = np.random.default_rng(identity)
        pattern = random.integers(60, 190, (7, 7, 3))
        for number in range(images):
            path = folder / name_of(identity, number)
            path.parent.mkdir(parents=True, exist_ok=True)
            picture = np.clip(pattern + random.normal(0, noise, (7, 7, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(picture).save(path)
    return folder


def write_csv(path: Path, header: str, rows: Iterable[Sequence[object]]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(header.split(","))
        writer.writerows(rows)
    return path


def embeddings_of(embedder: ColourEmbedder, folder: Path, names: Sequence[str]) -> Embeddings:
    """Embed one image at a time."""
    found = [embedder.embed(torch.tensor(decode((folder / name).read_bytes()))[None])[0] for name in names]
    return np.asarray(torch.stack(found).numpy())


def products(left: Embeddings, right: Embeddings) -> npt.NDArray[np.float64]:
    return np.array([[float(np.dot(a.astype(float), b.astype(float))) for b in right] for a in left])
