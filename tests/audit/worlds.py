"""Worlds in embedding space: people as directions on the sphere, images as noisy looks at them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from proxylesskd.classifier.classifier import InheritedClassifier
from proxylesskd.classifier.embedded import EmbeddedSource


@dataclass(frozen=True)
class World:
    """True directions of the people and what a teacher says about their images."""

    true: Tensor
    embedded: EmbeddedSource

    @property
    def names(self) -> list[str]:
        return list(self.embedded.identities)

    def centres(self) -> Tensor:
        """Class centres of the embeddings, by plain numpy."""
        views = self.embedded.views.astype(np.float64).sum(axis=1)
        views /= np.linalg.norm(views, axis=1, keepdims=True)
        rows = [views[self.embedded.labels == identity].sum(axis=0) for identity in range(len(self.names))]
        return torch.from_numpy(np.stack([row / np.linalg.norm(row) for row in rows])).float()

    def classifier(self, rows: Tensor | None = None, names: list[str] | None = None) -> InheritedClassifier:
        return InheritedClassifier(self.centres() if rows is None else rows, names or self.names, {})


def world(people: int, dim: int, *, noise: float = 1.0, images: int = 6, seed: int = 0) -> World:
    """Make a world of 2 to ``images`` images a person, named "p0", "p1", ….

    Noise is relative to the signal: at 1 two images of a person have a cosine near 0.5, at 2 near 0.2, at 3 near 0.1.
    """
    random = np.random.default_rng(seed)
    true = unit(random.standard_normal((people, dim)))
    labels = random.permutation(np.repeat(np.arange(people), random.integers(2, images + 1, people)))
    scale = noise / np.sqrt(dim)
    looks = true[labels] + scale * random.standard_normal((len(labels), dim))
    mirrored = looks + 0.2 * scale * random.standard_normal(looks.shape)
    views = unit(np.stack([looks, mirrored], axis=1)).astype(np.float32)
    names = [f"p{number}" for number in range(people)]
    return World(torch.from_numpy(true).float(), EmbeddedSource(views, labels, names, "world", f"world-{seed}"))


def unit(vectors: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    result: npt.NDArray[np.float64] = vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
    return result
