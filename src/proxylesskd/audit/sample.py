"""A sample of the images: decoded, and what the teacher says about it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from proxylesskd.audit.evidence import sample_images
from proxylesskd.classifier.embedded import EmbeddedSource
from proxylesskd.data.loader import CorruptLog, iterate
from proxylesskd.data.source import Source
from proxylesskd.data.subset import Subset
from proxylesskd.models.embedder import Embedder
from proxylesskd.progress import track

BATCH = 64


def embed_sample(
    teacher: Embedder, source: Source, *, sample: int, seed: int = 0, workers: int = 2, progress: bool = False
) -> EmbeddedSource:
    """Embed a sample of the images, unmirrored, spread over as many identities as pairs of images allow.

    Args:
        teacher: embeds them.
        source: labelled faces.
        sample: how many images at most.
        seed: of the choice.
        workers: decoding threads.
        progress: draw a progress bar.
    """
    chosen = Subset(source, sample_images(source.labels, sample, seed))
    batches: Iterable[Any] = iterate(chosen, batch=BATCH, workers=workers, corrupt=CorruptLog())
    total = -(-len(chosen) // BATCH)
    embeddings, labels = [], []
    for images, own, _ in track(batches, "audit: embedding a sample", total=total, quiet=not progress):
        embeddings.append(teacher.embed(images).float().cpu().numpy()[:, None])  # [b, 1, D]
        labels.append(own.numpy())
    return EmbeddedSource(
        np.concatenate(embeddings), np.concatenate(labels), source.identities, teacher.name, teacher.fingerprint
    )


def read_sample(source: Source, *, identities: int, images: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Decode a few images of a few identities.

    Args:
        source: labelled faces.
        identities: how many, at most, of those with two images and more.
        images: of each, at most.
        seed: of the choice.

    Returns:
        ``[n, 3, 112, 112] uint8`` RGB and ``[n] int64`` labels of the source.
    """
    random = np.random.default_rng(seed)
    labels = np.asarray(source.labels)
    counts = np.bincount(labels)
    many = random.permutation(np.flatnonzero(counts >= 2))[:identities]
    chosen = [random.permutation(np.flatnonzero(labels == identity))[:images] for identity in many]
    subset = Subset(source, np.concatenate([*chosen, np.empty(0, np.int64)]).astype(np.int64))
    if not len(subset):
        return torch.empty(0, 3, 112, 112, dtype=torch.uint8), torch.empty(0, dtype=torch.int64)
    pieces = list(iterate(subset, batch=BATCH, corrupt=CorruptLog()))
    return torch.cat([piece[0] for piece in pieces]), torch.cat([piece[1] for piece in pieces])
