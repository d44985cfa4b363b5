"""A method against others on a validation split of identities: small, quick students, every formula of methods.

    python benchmarks/research.py --faces faces --teacher sface.onnx --out runs/research \
        --methods proxyless homing "homing(end=0.5)" "homing + 2.5*l2" --seeds 0 1 2

The identities of the faces are split by a fixed seed: 500 with at least 4 images validate, the rest trains. Faces are
decoded once, cut to their middle and shrunk; the teacher is asked once for both mirror views; the inherited rows are
the class centres of the training images. All pairs of the validation images are scored, student against student and
teacher against student. Results are added to OUT/results.jsonl, embeddings to OUT/*.npy, and a finished training is not
repeated. The first method is the baseline of the paired bootstrap, which draws identities, over the seeds' mean.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from ranked import Ranked, rank
from shallow import Shallow
from torch import Tensor, nn

import proxylesskd as pk
from proxylesskd.classifier.classifier import InheritedClassifier
from proxylesskd.classifier.embed_source import embed_source
from proxylesskd.data.loader import CorruptLog, iterate
from proxylesskd.data.source import Source
from proxylesskd.losses.margin import ArcFace
from proxylesskd.methods.catalogue import Resources, expand, make_terms
from proxylesskd.methods.learner import Learner
from proxylesskd.methods.method import Batch


@dataclass(frozen=True)
class Part:
    """Images of some identities and what the teacher says about them.

    Attributes:
        images: ``[N, 3, S, S] uint8``.
        labels: ``[N] int64`` in [0, C).
        views: ``[N, 2, D] float32`` unit embeddings of both mirror views.
    """

    images: Tensor
    labels: Tensor
    views: Tensor

    @property
    def rows(self) -> Tensor:
        """``[C, D]`` class centres."""
        count = int(self.labels.max()) + 1
        sums = torch.zeros(count, self.views.shape[2]).index_add_(0, self.labels, self.views.sum(dim=1))
        return F.normalize(sums, dim=1)


def decode(source: Source, size: int) -> Tensor:
    """Return ``[N, 3, S, S] uint8``: the middle four fifths, shrunk by area."""
    found = torch.zeros(len(source), 3, size, size, dtype=torch.uint8)
    for images, _, indices in iterate(source, batch=256, workers=1, corrupt=CorruptLog()):
        edge = images.shape[-1] // 10
        middle = images[..., edge:-edge, edge:-edge].float()
        found[indices] = F.interpolate(middle, size=(size, size), mode="area").round().to(torch.uint8)
    return found


def split(labels: npt.NDArray[np.int64], count: int, seed: int) -> npt.NDArray[np.bool_]:
    """Return ``[N] bool``, the images of ``count`` identities that have at least four."""
    many = np.flatnonzero(np.bincount(labels[labels >= 0]) >= 4)
    return np.isin(labels, np.random.default_rng(seed).permutation(many)[:count])


def open_parts(args: argparse.Namespace) -> tuple[Part, Part]:
    """Decode, embed, split: what trains and what validates."""
    source = pk.open_source(args.faces)
    teacher = pk.load_teacher(args.teacher, threads=torch.get_num_threads())
    embedded = embed_source(teacher, source, folder=args.out / "teacher", progress=True)
    images = decode(source, args.size)
    validating = split(embedded.labels, args.validation, args.split_seed)
    parts = []
    for chosen in (~validating & (embedded.labels >= 0), validating):
        where = np.flatnonzero(chosen)
        labels = np.unique(embedded.labels[where], return_inverse=True)[1]
        views = F.normalize(torch.from_numpy(np.asarray(embedded.views[where], np.float32)), dim=2)
        parts.append(Part(images[where], torch.from_numpy(labels), views))
    return parts[0], parts[1]


def make_learner(formula: str, part: Part, args: argparse.Namespace, seed: int) -> Learner:
    """Return a fresh student with what teaches it."""
    torch.manual_seed(seed)
    dim, rows = part.views.shape[2], part.rows
    names = [str(number) for number in range(len(rows))]
    resources = Resources(
        num_identities=len(rows),
        dim=dim,
        seed=seed,
        images=len(part.labels),
        margin=lambda: ArcFace(args.margin),
        scale=args.scale,
        engine="reference",
        classifier=InheritedClassifier(rows, names, {"how": "class centres"}),
        teacher_dim=dim,
    )
    return Learner(Shallow(dim, args.width, args.size), make_terms(expand(formula), resources))


def make_batch(part: Part, chosen: Tensor, mirrored: Tensor, step: int, steps: int) -> Batch:
    """Return one step's images, some of them mirrored, with the teacher's embeddings of the views shown."""
    images = as_input(part.images[chosen])
    images = torch.where(mirrored[:, None, None, None], images.flip(3), images)
    shown = part.views[chosen, mirrored.long()]  # [B, D]
    return Batch(images, part.labels[chosen], chosen, step, step / steps, teacher_embeddings=shown)


def as_input(images: Tensor) -> Tensor:
    """Return what the student takes."""
    return (images.float() - 127.5) / 127.5


def rate_at(progress: float, highest: float) -> float:
    """Rise over the first tenth, then half a cosine down to 0."""
    return highest * (progress / 0.1 if progress < 0.1 else 0.5 + 0.5 * math.cos(math.pi * (progress - 0.1) / 0.9))


def make_optimiser(learner: Learner) -> torch.optim.SGD:
    """Return SGD without weight decay on norms."""
    trained = [parameter for _, parameter in learner.trainable()]
    groups: list[dict[str, Any]] = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": 5e-4},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.SGD(groups, lr=0.0, momentum=0.9, nesterov=True)


def train(formula: str, part: Part, args: argparse.Namespace, seed: int) -> nn.Module:
    """Train one student; order and flips depend on the seed alone."""
    learner, generator = make_learner(formula, part, args, seed), torch.Generator().manual_seed(1000 + seed)
    optimiser = make_optimiser(learner)
    count = len(part.labels)
    each = count // args.batch
    steps = round(each * args.epochs)
    for step in range(steps):
        if step % each == 0:
            order = torch.randperm(count, generator=generator)
            flips = torch.rand(count, generator=generator) < 0.5
        place = slice((step % each) * args.batch, (step % each + 1) * args.batch)
        for group in optimiser.param_groups:
            group["lr"] = rate_at(step / steps, args.lr)
        optimiser.zero_grad(set_to_none=True)
        loss = learner.step(make_batch(part, order[place], flips[place], step, steps))["loss"]
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    return learner.student


@torch.no_grad()
def embed(student: nn.Module, part: Part) -> Tensor:
    """Return ``[N, D]`` unit embeddings."""
    student.eval()
    return torch.cat([F.normalize(student(as_input(images)), dim=1) for images in torch.split(part.images, 256)])


def both_modes(student: Tensor, part: Part) -> tuple[Ranked, Ranked]:
    """Return the pairs of student and student, and of teacher and student."""
    labels, teacher = part.labels.numpy(), part.views[:, 0]
    return rank((student @ student.T).numpy(), labels, True), rank((teacher @ student.T).numpy(), labels, False)


def trained(formula: str, seed: int, parts: tuple[Part, Part], args: argparse.Namespace) -> tuple[Ranked, Ranked]:
    """Return how a method's student ranks what validates, trained unless it was before."""
    settings = {"method": formula, "seed": seed} | {name: getattr(args, name) for name in SETTINGS}
    path = args.out / (hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:16] + ".npy")
    fresh = not path.exists()
    if fresh:
        np.save(path, embed(train(formula, parts[0], args, seed), parts[1]).numpy())
    modes = both_modes(torch.from_numpy(np.load(path)), parts[1])
    if fresh:
        all_once = np.ones(len(modes[0].counts), np.int64)
        line = json.dumps(settings | {"tar": [mode.tar(all_once) for mode in modes], "file": path.name})
        with (args.out / "results.jsonl").open("a") as file:
            file.write(line + "\n")
        print(line, flush=True)
    return modes


def rates_of(students: Sequence[tuple[Ranked, Ranked]], replicates: int) -> npt.NDArray[np.float64]:
    """Return ``[1 + R, 2, 3]``: the mean over seeds, then over the same seeds with identities drawn again."""
    count = len(students[0][0].counts)
    generator = np.random.default_rng(0)  # the same draws for every method
    draws = [np.ones(count, np.int64)]
    draws += [np.bincount(generator.integers(count, size=count), minlength=count) for _ in range(replicates)]
    rates = np.array([[[mode.tar(times) for mode in modes] for modes in students] for times in draws])
    mean: npt.NDArray[np.float64] = rates.mean(axis=1)
    return mean


def show(rates: dict[str, npt.NDArray[np.float64]]) -> None:
    """Print means over seeds, and differences to the first method with 95 % intervals."""
    base = next(iter(rates.values()))
    print(
        "| method | single | cross-model | single, minus first at 1e-3 | cross-model, the same |\n|---|---|---|---|---|"
    )
    for name, found in rates.items():
        cells = [" / ".join(f"{100 * rate:.2f}" for rate in mode) for mode in found[0]]
        for gains in 100 * (found - base)[:, :, 1].T:
            low, high = np.quantile(gains[1:], [0.025, 0.975])
            cells.append(f"{gains[0]:+.2f} [{low:+.2f}, {high:+.2f}]")
        print(f"| {name} | " + " | ".join(cells) + " |")


SETTINGS = ("teacher", "size", "width", "batch", "epochs", "lr", "margin", "scale", "validation", "split_seed")


def parse() -> argparse.Namespace:
    """Read the options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faces", required=True, help="source of aligned faces")
    parser.add_argument("--teacher", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--methods", nargs="+", default=["proxyless", "homing"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--validation", type=int, default=500, help="identities that validate")
    parser.add_argument("--split-seed", type=int, default=20240)
    parser.add_argument("--replicates", type=int, default=100, help="of the paired bootstrap")
    numbers = {
        "size": 32,
        "width": 0.5,
        "batch": 64,
        "epochs": 4.0,
        "lr": 0.1,
        "margin": 0.3,
        "scale": 32.0,
        "threads": 1,
    }
    for name, value in numbers.items():
        parser.add_argument(f"--{name}", type=type(value), default=value)
    return parser.parse_args()


def main() -> None:
    """Train what is missing, print the table."""
    args = parse()
    torch.set_num_threads(args.threads)
    args.out.mkdir(parents=True, exist_ok=True)
    parts = open_parts(args)
    students = {name: [trained(name, seed, parts, args) for seed in args.seeds] for name in args.methods}
    show({name: rates_of(each, args.replicates) for name, each in students.items()})


if __name__ == "__main__":
    main()
