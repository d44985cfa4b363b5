"""What wrong labels do to rows: plain and robust class centres under planted label noise, without training anything.

    python benchmarks/label_noise.py --faces folder:faces --teacher sface.onnx:mean=0,std=1 --embeddings embeddings

A quarter of each identity's images is held out with its labels as they are. Of the others a share moves to another
identity drawn at random, none the first of its identity. Printed are, as mean over seeds: the cosine between a row and
the one that the labels as found give, its first percentile over identities, and the held-out images whose own row is
the nearest, with the standard error of the difference between both kinds of rows over all seeds' images.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

import proxylesskd as pk
from proxylesskd.classifier.embed_source import embed_source
from proxylesskd.classifier.embedded import EmbeddedSource
from proxylesskd.classifier.inherit import inherit_embedded
from proxylesskd.classifier.robust import robust_centres

KINDS: dict[str, Callable[[EmbeddedSource], Tensor]] = {
    "mean": lambda embedded: inherit_embedded(embedded, rows="mean").rows,
    "robust": lambda embedded: robust_centres(embedded).rows,
}
Labels = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Found:
    """One kind of rows under one draw: cosines ``[C]`` to the clean rows, hits ``[M]`` on held-out images."""

    cosines: npt.NDArray[np.float32]
    hits: npt.NDArray[np.bool_]


def split(labels: Labels, seed: int) -> tuple[Labels, Labels]:
    """Return labels of the images that make rows and of those held out, -1 elsewhere; no identity loses all."""
    random = np.random.default_rng(seed)
    order = np.lexsort((random.random(len(labels)), labels))
    rank = np.empty(len(labels), np.int64)
    rank[order] = np.arange(len(labels)) - np.searchsorted(labels[order], labels[order])
    size = np.bincount(labels[labels >= 0])[labels]
    held = (rank > 0) & (rank < 1 + size // 4)
    return np.where(held, -1, labels), np.where(held, labels, -1)


def plant(labels: Labels, share: float, count: int, seed: int) -> Labels:
    """Move a share of the images to other identities; none loses its first."""
    random = np.random.default_rng(seed)
    _, firsts = np.unique(labels, return_index=True)
    movable = np.setdiff1d(np.flatnonzero(labels >= 0), firsts)
    wrong = random.choice(movable, min(len(movable), round(share * int((labels >= 0).sum()))), replace=False)
    noisy = labels.copy()
    noisy[wrong] = (labels[wrong] + random.integers(1, count, len(wrong))) % count
    return noisy


def hits(embedded: EmbeddedSource, rows: Tensor) -> npt.NDArray[np.bool_]:
    """Return whether the own row is the nearest, for every labelled image."""
    parts = [(x @ rows.T).argmax(dim=1) == labels for x, labels, _ in embedded.chunks(2048)]
    return torch.cat(parts).numpy()


def draws(embedded: EmbeddedSource, share: float, seeds: int) -> Iterator[dict[str, Found]]:
    """Yield what is found for every seed."""
    for seed in range(seeds):
        used, held = split(embedded.labels, seed)
        clean, unseen = replace(embedded, labels=used), replace(embedded, labels=held)
        noisy = replace(embedded, labels=plant(used, share, len(embedded.identities), seed))
        found = {}
        for kind, make in KINDS.items():
            rows = make(noisy)
            found[kind] = Found((rows * make(clean)).sum(dim=1).numpy(), hits(unseen, rows))
        yield found


def line(embedded: EmbeddedSource, share: float, seeds: int) -> str:
    """Return one row of the table."""
    found = list(draws(embedded, share, seeds))
    cells = [f"{100 * share:g} %"]
    for kind in KINDS:
        cosines, right = (np.concatenate([getattr(f[kind], name) for f in found]) for name in ("cosines", "hits"))
        cells.append(f"{cosines.mean():.4f} ({np.quantile(cosines, 0.01):.3f})")
        cells.append(f"{100 * right.mean():.2f}")
    gain = np.concatenate([f["robust"].hits.astype(int) - f["mean"].hits for f in found])
    cells.append(f"{100 * gain.mean():+.2f} ({100 * gain.std() / len(gain) ** 0.5:.2f})")
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faces", required=True, help="source of labelled faces")
    parser.add_argument("--teacher", required=True)
    parser.add_argument("--embeddings", type=Path, required=True, help="folder to keep the teacher's embeddings in")
    parser.add_argument("--shares", nargs="+", type=float, default=[0.0, 0.05, 0.1, 0.2])
    parser.add_argument("--seeds", type=int, default=5)
    args = parser.parse_args()
    teacher = pk.load_teacher(args.teacher, threads=torch.get_num_threads())
    embedded = embed_source(teacher, pk.open_source(args.faces), folder=args.embeddings, progress=True)
    titles = ["planted", *(f"{kind}: {what}" for kind in KINDS for what in ("cosine (1st percentile)", "top-1 in %"))]
    print(f"{teacher.name}, {len(embedded)} images of {len(embedded.identities)} identities, {args.seeds} seeds\n")
    titles.append("robust minus mean, points (standard error)")
    print("| " + " | ".join(titles) + " |\n|" + "---|" * len(titles))
    for share in args.shares:
        print(line(embedded, share, args.seeds), flush=True)


if __name__ == "__main__":
    main()
