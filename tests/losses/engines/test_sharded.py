from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import torch.nn.functional as F

from proxylesskd.errors import UserError
from proxylesskd.losses.adaptive_margin import AdaFace, CurricularFace
from proxylesskd.losses.engines.sharded import Sharded, shard
from proxylesskd.losses.margin import ArcFace, Margin
from proxylesskd.losses.rows import Rows, quantise, split
from tests.losses.problems import loss_and_gradient, problem

COUNT, DIM, BATCH = 37, 6, 12  # 37 rows split unevenly over 2 and over 4 ranks
CASES = ("arcface", "curricular", "adaface", "smoothing", "large scale", "int8", "bfloat16", "chunks")


def case(name: str) -> tuple[Margin, float, float, int]:
    """Margin, scale, smoothing and number of rows of one case."""
    if name == "curricular":
        margin = CurricularFace(0.5, momentum=0.5)
        return margin, 16.0, 0.0, COUNT
    if name == "adaface":
        return AdaFace(0.4, momentum=0.5), 32.0, 0.0, COUNT
    scale = 300.0 if name == "large scale" else 32.0
    return ArcFace(0.3), scale, 0.1 if name == "smoothing" else 0.0, 9000 if name == "chunks" else COUNT


def stored(name: str, rows: torch.Tensor) -> Rows:
    return {"int8": quantise, "bfloat16": split}.get(name, lambda given: given)(rows)


def work(rank: int, world: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=world)
    found = {}
    for name in CASES:
        margin, scale, smoothing, count = case(name)
        embeddings, rows, labels = problem(BATCH, count, DIM, seed=3, target=0.5)
        start, stop = shard(count, rank, world)
        part = slice(rank * BATCH // world, (rank + 1) * BATCH // world)
        engine = Sharded(count)
        found[name] = loss_and_gradient(
            embeddings[part], stored(name, rows[start:stop]), labels[part], margin, engine, scale, smoothing
        )
    torch.save(found, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.parametrize("world", [2, 4])
def test_every_world_size_gives_what_one_process_gives(world: int, tmp_path: Path) -> None:
    mp.spawn(work, (world, str(tmp_path)), nprocs=world)
    parts = [torch.load(tmp_path / f"{rank}.pt") for rank in range(world)]
    for name in CASES:
        margin, scale, smoothing, count = case(name)
        embeddings, rows, labels = problem(BATCH, count, DIM, seed=3, target=0.5)
        # a row's bytes do not depend on the rows beside it, so that whole and split rows are the same rows
        exact = loss_and_gradient(embeddings, stored(name, rows), labels, margin, "chunked", scale, smoothing)
        for number, whole in enumerate(exact):
            torch.testing.assert_close(torch.cat([part[name][number] for part in parts]), whole, rtol=1e-9, atol=1e-9)


def test_one_process_needs_no_group() -> None:
    embeddings, rows, labels = problem(4, 20, 5)
    found = loss_and_gradient(embeddings, rows, labels, ArcFace(), Sharded(20))
    expected = loss_and_gradient(embeddings, rows, labels, ArcFace(), "reference")
    torch.testing.assert_close(found, expected)


def test_shards_cover_all_rows_evenly() -> None:
    for count, world in ((37, 4), (8, 8), (3, 5), (10, 1)):
        cuts = [shard(count, rank, world) for rank in range(world)]
        assert [row for start, stop in cuts for row in range(start, stop)] == list(range(count))
        assert max(b - a for a, b in cuts) - min(b - a for a, b in cuts) <= 1


def test_rows_of_another_rank_are_refused() -> None:
    rows = F.normalize(torch.randn(5, 3), dim=1)
    with pytest.raises(UserError, match="expected rows 0 to 6 of 7 on rank 0 of 1, found 5"):
        loss_and_gradient(torch.randn(2, 3), rows, torch.tensor([0, 1]), ArcFace(), Sharded(7))
