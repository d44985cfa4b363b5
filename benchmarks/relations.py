"""What the relations of a batch cost: loss and gradient of each method, and RKD with all B² differences formed.

    python benchmarks/relations.py --threads 1 --clock cpu

Embeddings are drawn at random. "rkd, differences" is RKD as its definition reads: differences ``[B, B, D]`` of all
images, each at unit length, and their products.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from interleave import Run, interleave, ratio
from torch import Tensor

from proxylesskd.methods.catalogue import CATALOGUE
from proxylesskd.methods.method import Batch, Seen
from proxylesskd.methods.rkd import rkd_losses
from proxylesskd.training.allocator import keep_freed_memory

BASE, NAIVE = "rkd", "rkd, differences"
NAMES = ("rkd", "sp", "cckd", "pkt", "darkrank", "triplet_distillation")
PER_IDENTITY = 4

Loss = Callable[[Tensor], Tensor]


def relations_of(points: Tensor) -> tuple[Tensor, Tensor]:
    """Return relative distances ``[B, B]`` and cosines ``[B, B, B]`` from all differences."""
    differences = points - points[:, None]  # [B, B, D]
    squares = differences.square().sum(dim=2)
    nothing = squares == 0
    lengths = squares.masked_fill(nothing, 1.0).sqrt().masked_fill(nothing, 0.0)
    unit = F.normalize(differences, dim=2)
    return lengths / (lengths.sum() / (len(points) * (len(points) - 1))), torch.bmm(unit, unit.mT)


def naive_rkd(student: Tensor, teacher: Tensor) -> Tensor:
    """Return RKD with its usual weights."""
    mine, its = relations_of(F.normalize(student, dim=1)), relations_of(teacher)
    return 25 * F.smooth_l1_loss(mine[0], its[0]) + 50 * F.smooth_l1_loss(mine[1], its[1])


def losses(batch: Batch, names: list[str]) -> dict[str, Loss]:
    """Return by name what maps the student's embeddings to a loss."""
    teacher = batch.teacher_embeddings
    assert teacher is not None
    made: dict[str, Loss] = {}
    for name in names:
        method = CATALOGUE[name].made()
        made[name] = lambda student, method=method: method.loss(Seen(student), batch)["loss"]
    return made | {NAIVE: lambda student: naive_rkd(student, teacher)}


def drawn(args: argparse.Namespace) -> tuple[Tensor, Batch]:
    """Return the student's embeddings and what the methods hear of the batch."""
    generator = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(args.batch, args.dim, generator=generator) for _ in range(2))
    labels = torch.arange(args.batch, device=args.device) // PER_IDENTITY
    embeddings = F.normalize(teacher, dim=1).to(args.device)
    return student.to(args.device).requires_grad_(), Batch(labels, labels, labels, teacher_embeddings=embeddings)


def error_of(student: Tensor, batch: Batch) -> float:
    """Return how far RKD's gradient is from that of the differences in float64, relative."""
    assert batch.teacher_embeddings is not None
    wide = student.detach().double().requires_grad_()
    (exact,) = torch.autograd.grad(naive_rkd(wide, batch.teacher_embeddings.double()), wide)
    near, angles = rkd_losses(F.normalize(student, dim=1), batch.teacher_embeddings)
    (found,) = torch.autograd.grad(25 * near + 50 * angles, student)
    return float((found - exact).norm() / exact.norm())


def _step(loss: Loss, student: Tensor) -> Run:
    return lambda: torch.autograd.grad(loss(student), student)


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", choices=NAMES, default=list(NAMES))
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall", help="cpu on a busy machine")
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    keep_freed_memory()  # as `proxylesskd` does
    student, batch = drawn(args)
    variants = {
        name: partial(_step, loss, student)
        for name, loss in losses(batch, list(dict.fromkeys([BASE, *args.methods]))).items()
    }
    found = interleave(variants, rounds=args.rounds, seconds=60.0, device=args.device)
    print(f"B={args.batch}, D={args.dim}, torch {torch.__version__}, {args.device}, {args.threads} threads")
    print(f"gradient of rkd against float64: {error_of(student, batch):.1e}\n")
    print(f"| loss and gradient | ms, median | times '{BASE}' [95 % interval] |\n|---|---|---|")
    for name, timing in found.items():
        print(f"| {name} | {1e3 * timing.median(args.clock):.2f} | {ratio(timing, found[BASE], args.clock)} |")


if __name__ == "__main__":
    main()
