from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import torch.nn.functional as F
from scipy.spatial.distance import cdist
from torch import Tensor, nn

from proxylesskd.errors import UserError
from proxylesskd.methods import relations
from proxylesskd.methods.cckd import CCKD
from proxylesskd.methods.darkrank import DarkRank
from proxylesskd.methods.method import Batch, Method, Seen
from proxylesskd.methods.pkt import PKT
from proxylesskd.methods.relations import (
    cosines,
    distances,
    require_images,
    roots,
    squared_distances,
    sum_in_blocks,
    whole_batch,
)
from proxylesskd.methods.rkd import RKD
from proxylesskd.methods.sp import SP
from proxylesskd.methods.triplet_distillation import TripletDistillation
from tests.methods.relational import batch_of, drawn, unit


def test_cosines_and_distances_of_every_pair() -> None:
    points, _ = drawn(count=9)
    units = unit(points)
    expected = [[sum(a * b for a, b in zip(x, y, strict=True)) for y in units] for x in units]
    np.testing.assert_allclose(cosines(points), expected, atol=1e-12)
    np.testing.assert_allclose(distances(points + 10), cdist(points, points), atol=1e-10)
    np.testing.assert_allclose(squared_distances(points), cdist(points, points) ** 2, atol=1e-10)
    point = points.requires_grad_()
    assert torch.autograd.gradcheck(distances, point)


def test_small_distances_survive_float32() -> None:
    generator = torch.Generator().manual_seed(0)
    points = 1 + 1e-3 * torch.randn(6, 512, generator=generator)  # as an untrained student's: all alike
    expected = cdist(points.double(), points.double())
    np.testing.assert_allclose(distances(points), expected, rtol=1e-5)


def test_what_comes_twice_is_at_no_distance_and_has_no_gradient() -> None:
    points = torch.randn(5, 64, generator=torch.Generator().manual_seed(1))
    points[3] = points[0]
    points.requires_grad_()
    found = distances(points)
    assert found[0, 3] == found[3, 0] == 0
    (gradient,) = torch.autograd.grad(found[0, 3] + found.diagonal().sum(), points)
    assert torch.equal(gradient, torch.zeros_like(points))
    assert distances(torch.ones(4, 3)).eq(0).all()


def test_what_is_no_number_stays_visible() -> None:
    points = torch.randn(4, 3)
    points[1, 1] = torch.nan
    assert distances(points).isnan().any()
    assert roots(torch.tensor([torch.nan, 4.0]))[0].isnan()


def test_blocks_add_up_with_their_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    square = torch.randn(10, 10, generator=torch.Generator().manual_seed(0), dtype=torch.float64).requires_grad_()
    seen = []

    def part(values: Tensor, rows: slice) -> Tensor:
        seen.append(rows)
        return (values[rows, :, None] * values).pow(2).sum()

    for per_row, slices in ((10, [slice(0, 10)]), (3, [slice(0, 3), slice(3, 6), slice(6, 9), slice(9, 10)])):
        monkeypatch.setattr(relations, "CPU_BLOCK", 100 * per_row + 50)
        seen.clear()
        found = sum_in_blocks(part, square)
        assert seen == slices
        squares = square.detach() ** 2
        assert found.item() == pytest.approx((squares.sum(dim=0) * squares.sum(dim=1)).sum().item(), rel=1e-12)
        assert torch.autograd.gradcheck(lambda x: 2 * sum_in_blocks(part, x), square)
        assert not sum_in_blocks(part, square.detach()).requires_grad


def test_the_teacher_comes_at_unit_length_or_at_its_own() -> None:
    student, teacher = drawn()
    for normalised, expected in ((True, F.normalize(teacher, dim=1)), (False, teacher)):
        mine, its = whole_batch(Seen(student), batch_of(teacher), normalised)
        assert mine is student
        torch.testing.assert_close(its, expected)


def test_too_few_images_are_refused() -> None:
    require_images(torch.ones(3, 2), 3, "rkd")
    with pytest.raises(UserError, match="at least 4 images for rkd, found 3; give a larger"):
        require_images(torch.ones(3, 2), 4, "rkd")


@pytest.mark.parametrize("method", [RKD(), SP(), CCKD(), PKT(), DarkRank(top=2), TripletDistillation()])
def test_every_method_refuses_a_batch_without_pairs(method: Method) -> None:
    one = torch.ones(1, 4)
    with pytest.raises(UserError, match="images for"):
        method.loss(Seen(one), batch_of(one))


BATCH, DIM = 12, 5


def methods() -> dict[str, Method]:
    return {
        "rkd": RKD(),
        "raw": RKD(normalised=False),
        "sp": SP(),
        "cckd": CCKD(),
        "pkt": PKT(),
        "darkrank": DarkRank(),
        "triplets": TripletDistillation(),
        "hardest": TripletDistillation(distance="arccos", mining="hardest"),
    }


def gradients(rank: int, world: int) -> dict[str, Tensor]:
    """The gradient of each method after the mean over processes, of each one's part of one batch."""
    student, teacher = drawn(5, BATCH, DIM)
    labels = torch.arange(BATCH) % 4
    mine = slice(rank * BATCH // world, (rank + 1) * BATCH // world)
    whole = batch_of(teacher, labels)
    assert whole.teacher_embeddings is not None
    assert whole.teacher_norms is not None
    batch = Batch(
        student[mine],
        labels[mine],
        labels[mine],
        teacher_embeddings=whole.teacher_embeddings[mine],
        teacher_norms=whole.teacher_norms[mine],
    )
    found = {}
    for name, method in methods().items():
        weight = nn.Parameter(torch.eye(DIM, dtype=torch.float64) + 0.1)
        (gradient,) = torch.autograd.grad(method.loss(Seen(student[mine] @ weight), batch)["loss"], weight)
        if world > 1:
            dist.all_reduce(gradient)
        found[name] = gradient / world
    return found


def work(rank: int, world: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=world)
    torch.save(gradients(rank, world), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def test_two_processes_find_the_gradient_of_one(tmp_path: Path) -> None:
    mp.spawn(work, (2, str(tmp_path)), nprocs=2)
    parts = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    for name, alone in gradients(0, 1).items():
        assert alone.abs().max() > 1e-4, name
        for part in parts:
            torch.testing.assert_close(part[name], alone, rtol=1e-9, atol=1e-12)
