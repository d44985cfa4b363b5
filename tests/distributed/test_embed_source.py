"""Embedding and summing by several processes, joined by gloo, gives what one process gives, bit for bit."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from proxylesskd.classifier.centres import ClassSums
from proxylesskd.classifier.embed_source import embed_source
from proxylesskd.data.loader import CorruptLog
from tests.distributed.ring import run_together
from tests.faces import ColourEmbedder, MemorySource

BATCH = 3


class RankedEmbedder(ColourEmbedder):
    """Says how many images this process embedded."""

    images = 0

    def embed(self, images: Tensor) -> Tensor:
        self.images += len(images)
        return super().embed(images)


def faces() -> MemorySource:
    source = MemorySource(4, 5)
    for index in (3, 4, 5, 11):  # the whole second batch, and one more
        source.spoil(index)
    return source


def in_process(rank: int, world: int, place: str) -> None:
    embed(rank, Path(place))
    add_up(rank, world, Path(place))


def embed(rank: int, place: Path) -> None:
    teacher, corrupt = RankedEmbedder(), CorruptLog()
    found = embed_source(teacher, faces(), folder=place / "shared", batch=BATCH, corrupt=corrupt)
    np.savez(place / f"{rank}.npz", views=found.views, labels=found.labels, images=teacher.images)
    embed_source(teacher, faces(), folder=place / "shared", batch=BATCH)
    # Nothing was left to do, neither for us nor for anybody.
    assert teacher.images == np.load(place / f"{rank}.npz")["images"]


def drawn() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(2)
    return F.normalize(torch.randn(300, 8, generator=generator), dim=1), torch.randint(7, (300,), generator=generator)


def add_up(rank: int, world: int, place: Path) -> None:
    embeddings, labels = drawn()
    sums = ClassSums(7, 8)
    sums.add(embeddings[rank::world], labels[rank::world])
    sums.merge_processes()
    np.savez(place / f"sums-{rank}.npz", means=sums.means(), seen=sums.seen)


@pytest.mark.parametrize("world", [2, 3])
def test_processes_find_what_one_finds(world: int, tmp_path: Path) -> None:
    assert run_together(world, in_process, str(tmp_path)) == [0] * world
    check_embeddings([np.load(tmp_path / f"{rank}.npz") for rank in range(world)])
    check_sums([np.load(tmp_path / f"sums-{rank}.npz") for rank in range(world)])


def check_embeddings(shared: list[Mapping[str, Any]]) -> None:
    alone = embed_source(ColourEmbedder(), faces(), batch=BATCH)
    for found in shared:
        assert np.array_equal(found["views"], alone.views)
        assert np.array_equal(found["labels"], alone.labels)
    assert sum(int(found["images"]) for found in shared) == 2 * (20 - 4)
    assert min(int(found["images"]) for found in shared) > 0


def check_sums(shared: list[Mapping[str, Any]]) -> None:
    embeddings, labels = drawn()
    alone = ClassSums(7, 8)
    alone.add(embeddings, labels)
    for found in shared:
        assert np.array_equal(found["means"], alone.means())
        assert np.array_equal(found["seen"], alone.seen)
