"""Tiny stand-ins that several tests share: coloured squares as faces, and an embedder that reads their colour."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor


def face(identity: int, number: int, size: int = 112) -> npt.NDArray[np.uint8]:
    """A [size, size, 3] picture whose pattern belongs to the identity and whose brightness to the image."""
    random = np.random.default_rng(1000 + identity)
    coarse = random.integers(40, 200, (7, 7, 3))
    picture = np.kron(coarse, np.ones((size // 7, size // 7, 1)))
    return np.clip(picture + 6.0 * number, 0, 255).astype(np.uint8)


def jpeg(picture: npt.NDArray[np.uint8]) -> bytes:
    """Encode [H, W, 3] by Pillow, so that our own encoder is not its own judge."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


def write_faces(folder: Path, identities: int, images: int, first: int = 0) -> Path:
    """Write a folder of faces, one sub-folder per identity."""
    for identity in range(first, first + identities):
        place = folder / f"id-{identity:03d}"
        place.mkdir(parents=True)
        for number in range(images):
            (place / f"{number:03d}.jpg").write_bytes(jpeg(face(identity, number)))
    return folder


class MemorySource:
    """Faces held in memory."""

    def __init__(self, identities: int, images: int) -> None:
        self.identities = [f"id-{i:03d}" for i in range(identities)]
        self.labels = np.repeat(np.arange(identities, dtype=np.int64), images)
        self._data = [jpeg(face(i, n)) for i in range(identities) for n in range(images)]

    def __len__(self) -> int:
        return len(self._data)

    def read(self, index: int) -> tuple[bytes, int]:
        return self._data[index], int(self.labels[index])

    def name(self, index: int) -> str:
        return f"image {index}"

    def spoil(self, index: int) -> None:
        self._data[index] = self._data[index][:200]


class ColourEmbedder:
    """Embeds a face as its centred 7x7 colours: distinct for identities, not symmetric under mirroring."""

    dim = 147
    name = "colours"
    fingerprint = "colours-1"

    def embed(self, images: Tensor) -> Tensor:
        small = F.interpolate(images.float(), size=(7, 7), mode="area").flatten(1)
        return F.normalize(small - small.mean(dim=1, keepdim=True), dim=1)


def tiny_student(dim: int, image_size: int = 112) -> torch.nn.Module:
    """A linear student on pooled pixels."""
    return torch.nn.Sequential(
        torch.nn.AdaptiveAvgPool2d(7), torch.nn.Flatten(), torch.nn.Linear(147, dim), torch.nn.BatchNorm1d(dim)
    )


class Centred(torch.nn.Module):
    """Subtracts the mean of every sample."""

    def forward(self, values: Tensor) -> Tensor:
        return values - values.mean(dim=1, keepdim=True)


def colour_network(dim: int = 24, width: float = 1.0, image_size: int = 48) -> torch.nn.Module:
    """A network that tells faces apart without training, for paths: ``architecture=tests.faces:colour_network``."""
    return torch.nn.Sequential(
        torch.nn.AdaptiveAvgPool2d(7), torch.nn.Flatten(), Centred(), torch.nn.Linear(147, dim, bias=False)
    )
