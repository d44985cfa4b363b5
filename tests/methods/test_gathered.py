"""Losses that look across samples train the same whatever the number of processes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import torch.nn.functional as F
from torch import Tensor, nn

from proxylesskd.losses.margin import ArcFace, CosFace
from proxylesskd.methods.adadistill import AdaDistill
from proxylesskd.methods.ekd import EKD
from proxylesskd.methods.gathered import gathered
from proxylesskd.methods.gkd import GKD
from proxylesskd.methods.margin_distillation import MarginDistillation
from proxylesskd.methods.method import Batch, Method, Seen

BATCH, COUNT, DIM, STEPS = 12, 7, 6, 3


class Rows(nn.Module):
    """Frozen rows without a file."""

    def __init__(self, rows: Tensor) -> None:
        super().__init__()
        self.register_buffer("stored", F.normalize(rows, dim=1))


class Spread(nn.Module):
    """A loss of all samples at once in which each counts differently, of every kind of tensor that is gathered."""

    needs: frozenset[str] = frozenset()

    def loss(self, seen: Seen, batch: Batch) -> dict[str, Tensor]:
        whole = gathered(seen.embeddings)  # [N B, D]
        order = gathered(batch.indices).to(whole)
        lengths = gathered(seen.embeddings.norm(dim=1))
        assert not gathered(whole.detach()[:1]).requires_grad
        square = (whole @ whole.T).tanh() * torch.outer(order, order + 1)
        return {"loss": square.sum() + (order * lengths).sum().square()}


def methods() -> dict[str, Method]:
    generator = torch.Generator().manual_seed(1)
    rows = Rows(torch.randn(COUNT, DIM, generator=generator, dtype=torch.float64))
    sizes = {"num_identities": COUNT, "dim": DIM, "teacher_dim": DIM}
    made = {
        "spread": Spread(),
        "adadistill": AdaDistill(**sizes, margin=ArcFace(0.4), scale=8.0),
        "ekd": EKD(hardest=20, temperature=0.1),
        "gkd": GKD(**sizes, classifier=rows, margin=CosFace(0.4), scale=8.0, warmup=0.0, coverage=0.8),
        "margin": MarginDistillation(classifier=rows, dim=DIM, teacher_dim=DIM, scale=8.0),
    }
    return {name: method.double() for name, method in made.items()}


def train(rank: int, world: int) -> dict[str, dict[str, Tensor]]:
    """Train by each method for a few steps on this rank's parts; return what is left."""
    found = {}
    for name, method in methods().items():
        generator = torch.Generator().manual_seed(2)
        weight = nn.Parameter(torch.randn(DIM, DIM, generator=generator, dtype=torch.float64))
        parameters = [weight, *(parameter for _, parameter in method.named_parameters())]
        for _ in range(STEPS):
            images = torch.randn(BATCH, DIM, generator=generator, dtype=torch.float64)
            teacher = F.normalize(images + torch.randn(images.shape, generator=generator, dtype=torch.float64), dim=1)
            labels = torch.randint(COUNT, (BATCH,), generator=generator)
            mine = slice(rank * BATCH // world, (rank + 1) * BATCH // world)
            batch = Batch(images[mine], labels[mine], torch.arange(BATCH)[mine], teacher_embeddings=teacher[mine])
            loss = method.loss(Seen(batch.images @ weight), batch)["loss"]
            gradients = torch.autograd.grad(loss, parameters)
            for parameter, gradient in zip(parameters, gradients, strict=True):
                if world > 1:
                    dist.all_reduce(gradient)
                parameter.data -= 1e-3 * gradient / world
        found[name] = {"weight": weight.detach()} | dict(method.state_dict())
    return found


def work(rank: int, world: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=world)
    torch.save(train(rank, world), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.parametrize("world", [2, 3])
def test_every_number_of_processes_trains_as_one_does(world: int, tmp_path: Path) -> None:
    mp.spawn(work, (world, str(tmp_path)), nprocs=world)
    parts = [torch.load(tmp_path / f"{rank}.pt") for rank in range(world)]
    for name, alone in train(0, 1).items():
        for key, value in alone.items():
            torch.testing.assert_close(parts[0][name][key], value, rtol=1e-9, atol=1e-9)
            # what processes keep beside each other stays the same to the last bit
            assert all(torch.equal(part[name][key], parts[0][name][key]) for part in parts[1:])


def test_one_process_gathers_itself() -> None:
    part = torch.randn(3, 2, requires_grad=True)
    assert gathered(part) is part
