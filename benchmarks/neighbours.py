"""The engine that evaluates nearest rows and a sample of the others: what a step costs, and what it changes.

    python benchmarks/neighbours.py speed
    python benchmarks/neighbours.py gradient --embeddings embeddings.npy --labels labels.npy
    python benchmarks/neighbours.py students --faces folder:faces --classifier classifier.safetensors \
        --pairs lfw-pairs.txt --root lfw --out runs/neighbours --neighbours 4 --sample 0.05 \
        model.width=0.25 model.image_size=56 method.m=0.3 method.scale=32 train.epochs=2

`speed` times a step against the exact one, interleaved, one thread, on random rows: the work does not depend on what
they are. `gradient` measures the error on rows estimated from real faces, for images that had no part in them.
The error depends on the share of rows that a batch meets: a batch of one meets its own neighbours alone, much as a
batch among millions does. `students` trains the same student exactly and by neighbours with several seeds.
Every command prints a Markdown table.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

import proxylesskd as pk
from proxylesskd.classifier.embedded import merge_views
from proxylesskd.evaluation import paired_difference
from proxylesskd.evaluation.bootstrap import bootstrap, interval, make_metric
from proxylesskd.evaluation.evaluation import measure
from proxylesskd.losses.engines.chunked import Chunked
from proxylesskd.losses.engines.engine import Engine
from proxylesskd.losses.engines.neighbours import Neighbours, gradient_cosine
from proxylesskd.losses.frozen_softmax import margin_softmax
from proxylesskd.losses.nearest_rows import DUPLICATE, NearestRows, find_nearest

FARS = (1e-1, 1e-2, 1e-3)
ENGINES = ("chunked", "neighbours")


def random_unit(count: int, dim: int, seed: int) -> Tensor:
    """Return ``[count, dim] float32`` random unit vectors."""
    return F.normalize(torch.randn(count, dim, generator=torch.Generator().manual_seed(seed)), dim=1)


def random_table(count: int, k: int, seed: int) -> NearestRows:
    """Return a table of random neighbours at cosines like those of real faces: gathers cost what they would cost."""
    random = np.random.default_rng(seed)
    rows = random.integers(0, count, (count, k), dtype=np.int32)
    return NearestRows(rows, np.full((count, k), 0.4, np.float16), "random")


def step_seconds(engine: Engine, embeddings: Tensor, rows: Tensor, labels: Tensor) -> tuple[float, float]:
    """Return CPU and wall seconds of the loss and its gradient."""
    leaf = embeddings.clone().requires_grad_()
    cpu, wall = time.process_time(), time.perf_counter()
    pk.frozen_softmax(leaf, rows, labels, margin=pk.ArcFace(0.5), scale=64.0, engine=engine).backward()
    return time.process_time() - cpu, time.perf_counter() - wall


def speed(args: argparse.Namespace) -> Iterator[str]:
    """Time both engines in turn, in an order that is drawn anew in every round; yield the table."""
    rows, table = random_unit(args.count, args.dim, 0), random_table(args.count, args.k, 1)
    rows = rows.to(getattr(torch, args.rows))
    random = np.random.default_rng(2)
    threads = torch.get_num_threads()
    yield f"\nC={args.count:,}, D={args.dim}, {args.rows} rows, {threads} thread(s), medians of {args.rounds} rounds\n"
    yield "| B | rows evaluated | exact, CPU s | neighbours, CPU s | ratio (lowest to highest) | wall ratio |"
    yield "|---|---|---|---|---|---|"
    approximate = Neighbours(table, sample=args.sample)
    engines: list[Engine] = [Chunked(), approximate]
    for batch in args.batch:
        labels = torch.from_numpy(random.integers(0, args.count, batch))
        embeddings = F.normalize(rows[labels].float() + random_unit(batch, args.dim, 3), dim=1)
        taken = np.zeros((args.rounds, 2, 2))
        for round_ in range(-1, args.rounds):  # the first one warms up
            for which in random.permutation(2):
                found = step_seconds(engines[which], embeddings, rows, labels)
                taken[max(round_, 0), which] = found
        cpu = taken[:, 1, 0] / taken[:, 0, 0]
        wall = np.median(taken[:, 1, 1] / taken[:, 0, 1])
        exact, ours = np.median(taken[:, :, 0], axis=0)
        share = evaluated(approximate, labels) / args.count
        spread = f"{np.median(cpu):.4f} ({cpu.min():.4f} to {cpu.max():.4f})"
        yield f"| {batch} | {100 * share:.1f} % | {exact:.3f} | {ours:.4f} | {spread} | {wall:.4f} |"


def evaluated(engine: Neighbours, labels: Tensor) -> int:
    """Return how many rows a batch meets."""
    chosen = engine.choose(labels)
    return len(chosen.near) + len(chosen.drawn)


def estimated(args: argparse.Namespace) -> tuple[Tensor, Tensor, Tensor]:
    """Return rows ``[C, D]``, and images ``[n, D]`` that had no part in them with their labels ``[n]``.

    With a classifier all embeddings are held out; without one the rows are the centres of every other image of an
    identity, and the rest is held out.
    """
    views = torch.from_numpy(np.load(args.embeddings)).float()
    embeddings = merge_views(views if views.ndim == 3 else views[:, None])
    labels = torch.from_numpy(np.load(args.labels)).long()
    if args.classifier is not None:
        return pk.InheritedClassifier.load(args.classifier).rows, embeddings, labels
    order = torch.argsort(labels, stable=True)
    begins = torch.searchsorted(labels[order], torch.arange(int(labels.max()) + 1))
    rank = torch.empty_like(labels)
    rank[order] = torch.arange(len(labels)) - begins[labels[order]]
    inside = rank % 2 == 0
    centres = torch.zeros(len(begins), embeddings.shape[1]).index_add_(0, labels[inside], embeddings[inside])
    return F.normalize(centres, dim=1), embeddings[~inside], labels[~inside]


def gradient(args: argparse.Namespace) -> Iterator[str]:
    """Compare gradients on held-out images, as they are and moved at random; yield the table."""
    torch.manual_seed(0)
    rows, images, labels = estimated(args)
    table = find_nearest(rows, max(args.k))
    pairs = len(table.duplicates(args.duplicate)) // 2
    yield f"\n{len(rows):,} rows of {rows.shape[1]}, {pairs} pairs above {args.duplicate}; {args.images} images"
    yield "the exact engine masks the same duplicates, but in the last column, where it evaluates all rows\n"
    titles = ["moved", "B", "k", "sample", "rows evaluated", "gradient cosine", "lowest 1 %", "loss gap", "none masked"]
    yield "| " + " | ".join(titles) + " |\n|" + "---|" * len(titles)
    for noise, batch, k, sample in product(args.noise, args.batch, args.k, args.sample):
        picked = torch.randperm(len(images))[: args.images]
        moved = F.normalize(images[picked] + noise * F.normalize(torch.randn(len(picked), rows.shape[1]), dim=1), dim=1)
        engine = Neighbours(table.first(k), sample=sample, duplicate=args.duplicate)
        batches = list(zip(moved.split(batch), labels[picked].split(batch), strict=True))
        share = np.mean([evaluated(engine, own) for _, own in batches]) / len(rows)
        fair = Neighbours(table.first(k), sample=1.0, duplicate=args.duplicate)
        cosine, gap = compared(engine, fair, batches, rows, args)
        plain, _ = compared(engine, Chunked(), batches, rows, args)
        low = np.percentile(cosine, 1)
        cells = [f"{noise:g}", str(batch), str(k), f"{sample:g}", f"{100 * share:.1f} %", f"{cosine.mean():.3f}"]
        yield "| " + " | ".join([*cells, f"{low:.3f}", f"{gap:+.3f}", f"{plain.mean():.3f}"]) + " |"


def compared(
    engine: Engine, exact: Engine, batches: list[tuple[Tensor, Tensor]], rows: Tensor, args: argparse.Namespace
) -> tuple[np.ndarray, float]:
    """Return ``[n]`` cosines between the gradients of two engines, and the difference of their mean losses."""
    cosines, gaps = [], []
    for embeddings, labels in batches:
        found = []
        for each in (engine, exact):
            leaf = embeddings.clone().requires_grad_()
            losses, _ = margin_softmax(
                leaf, rows, labels, margin=pk.ArcFace(args.margin), scale=args.scale, engine=each
            )
            found.append((losses.detach(), torch.autograd.grad(losses.sum(), leaf)[0]))
        cosines.append(gradient_cosine(found[0][1], found[1][1]))
        gaps.append(found[0][0] - found[1][0])
    return torch.cat(cosines).numpy(), float(torch.cat(gaps).mean())


def student_scores(args: argparse.Namespace, engine: str, seed: int, pairs: pk.Pairs) -> np.ndarray:
    """Train and evaluate one student, unless that is done; return its scores ``[P]``."""
    folder = args.out / f"{engine}-{seed}"
    if not (folder / "scores.npz").exists():
        settings = [f"data.train={args.faces}", f"seed={seed}", f"method.engine={engine}", *args.settings]
        if engine == "neighbours":
            settings += [f"method.neighbours={args.neighbours}", f"method.sample={args.sample}"]
            settings += [f"method.gap_every={args.gap_every}"]
        begun = (folder / "recipe.toml").exists()
        classifier = pk.InheritedClassifier.load(args.classifier)
        if not (folder / "student.safetensors").exists():
            pk.distill(pk.load_recipe(None, settings), folder, classifier=classifier, resume=begun, audit=False)
        pk.evaluate_into(folder, folder, pairs, replicates=0)
    return np.load(folder / "scores.npz")["single"]


def students(args: argparse.Namespace) -> Iterator[str]:
    """Train with every seed exactly and by neighbours; yield rates and their paired differences."""
    pairs = pk.read_pairs(args.pairs, args.root)
    found = {engine: np.stack([student_scores(args, engine, seed, pairs) for seed in args.seeds]) for engine in ENGINES}
    yield f"\nmean over {len(args.seeds)} seeds (lowest to highest); k={args.neighbours}, sample={args.sample:g}\n"
    yield "| metric | exact | its 95 % interval | neighbours | within | difference, 95 % interval |"
    yield "|---|---|---|---|---|---|"
    for metric in ("accuracy", *(f"tar@far={far!r}" for far in FARS), "auc"):
        exact, ours = ([measured(run, pairs, metric) for run in found[engine]] for engine in ENGINES)
        chosen = {metric: make_metric(metric)}
        drawn = np.mean([bootstrap(chosen, run, pairs)[metric] for run in found["chunked"]], axis=0)
        low, high = interval(drawn) or (0.0, 0.0)
        gain = paired_difference(found["neighbours"], found["chunked"], pairs, metric=metric)
        difference = f"{100 * gain.value:+.1f} [{100 * gain.lower:+.1f}, {100 * gain.upper:+.1f}]"
        within = "yes" if low <= np.mean(ours) <= high else "no"
        bounds = f"{100 * low:.1f} to {100 * high:.1f}"
        yield "| " + " | ".join([metric, summary(exact), bounds, summary(ours), within, difference]) + " |"


def measured(scores: np.ndarray, pairs: pk.Pairs, metric: str) -> float:
    """Return one rate of one run."""
    result = measure(scores, pairs, replicates=0, fars=FARS)
    if metric in ("accuracy", "auc"):
        return float(getattr(result, metric).value)
    return result.tar[float(metric.partition("=")[2])].value


def summary(values: list[float]) -> str:
    """Return mean, lowest and highest in per cent."""
    return f"{100 * np.mean(values):.1f} ({100 * min(values):.1f} to {100 * max(values):.1f})"


def parse() -> argparse.Namespace:
    """Return the command and its options; what is unknown to `students` is a setting of the recipe."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    fast = commands.add_parser("speed", help="time of a step against the exact one")
    fast.add_argument("--count", type=int, default=1_000_000)
    fast.add_argument("--dim", type=int, default=512)
    fast.add_argument("--batch", type=int, nargs="+", default=[128, 512])
    fast.add_argument("--k", type=int, default=128)
    fast.add_argument("--sample", type=float, default=0.01)
    fast.add_argument("--rows", choices=("float32", "bfloat16"), default="bfloat16")
    fast.add_argument("--rounds", type=int, default=7)
    near = commands.add_parser("gradient", help="error of loss and gradient on rows estimated from real faces")
    near.add_argument("--embeddings", type=Path, required=True, help=".npy [N, D] or, of several views, [N, V, D]")
    near.add_argument("--labels", type=Path, required=True, help=".npy [N], rows of the classifier")
    near.add_argument("--classifier", type=Path, help="made without these embeddings; else from every other of them")
    near.add_argument("--batch", type=int, nargs="+", default=[1, 8])
    near.add_argument("--k", type=int, nargs="+", default=[64, 128, 256, 512])
    near.add_argument("--sample", type=float, nargs="+", default=[0.01])
    near.add_argument("--noise", type=float, nargs="+", default=[0.0, 1.0], help="length of a random step, then unit")
    near.add_argument("--images", type=int, default=1024)
    near.add_argument("--margin", type=float, default=0.5)
    near.add_argument("--scale", type=float, default=64.0)
    near.add_argument("--duplicate", type=float, default=DUPLICATE)
    learn = commands.add_parser("students", help="students trained exactly and by neighbours")
    learn.add_argument("--faces", required=True, help="source of training faces")
    learn.add_argument("--classifier", type=Path, required=True)
    learn.add_argument("--pairs", type=Path, required=True)
    learn.add_argument("--root", type=Path, required=True, help="folder of the pairs' images")
    learn.add_argument("--out", type=Path, required=True)
    learn.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    learn.add_argument("--neighbours", type=int, default=4)
    learn.add_argument("--sample", type=float, default=0.05)
    learn.add_argument("--gap-every", type=int, default=50)
    args, args.settings = parser.parse_known_args()
    if args.settings and args.command != "students":
        parser.error(f"unknown arguments: {' '.join(args.settings)}")
    return args


def main() -> None:
    """Parse, run, print."""
    args = parse()
    commands: dict[str, Callable[[argparse.Namespace], Iterator[str]]] = {
        "speed": speed,
        "gradient": gradient,
        "students": students,
    }
    for line in commands[args.command](args):
        print(line, flush=True)


if __name__ == "__main__":
    main()
