"""Projections to a smaller dimension against each other: the teacher through them, and students trained through them.

    python benchmarks/projection.py --classifier classifier.safetensors --pairs lfw-pairs.txt --root lfw \
        --teacher teacher.onnx --dims 256 128
    python benchmarks/projection.py … --students runs/projection data.train=folder:faces train.epochs=3 model.width=0.5

The classifier is one of `proxylesskd inherit` in the teacher's own dimension, from faces of other identities than those
of the pairs. Teacher embeddings of the pairs' images may come from a file, `--embeddings lfw.npy`, [M, T] or [M, V, T]
of which the first view is taken, in the order of the pairs' images. Finished students are not trained again. Prints
Markdown tables; where a kind has several seeds the mean is shown, its interval over the draw of identities.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

import proxylesskd as pk
from proxylesskd.classifier.project import cosine_error, project
from proxylesskd.evaluation import paired_difference
from proxylesskd.evaluation.bootstrap import bootstrap, far_of, interval, make_metric
from proxylesskd.evaluation.embed import embed_images, pair_scores
from proxylesskd.evaluation.evaluation import measure
from proxylesskd.evaluation.result import ModeResult
from proxylesskd.evaluation.roc import Floats

KINDS = {"cosine": "cosines kept", "principal": "principal", "truncation": "truncation", "random": "random"}
OURS = "cosine"
METRICS = ("accuracy", "auc", "tar@far=0.01", "tar@far=0.001")

Scores = Mapping[tuple[int, str], Floats]  # by dimension and kind, [S, P] of S seeds


class Stored:
    """The teacher's embeddings of the pairs' images, found by the image: its gallery serves every student."""

    def __init__(self, name: str, images: npt.NDArray[np.uint8], embeddings: npt.NDArray[np.float32]) -> None:
        self.dim, self.name, self.fingerprint = int(embeddings.shape[1]), name, f"{name}, stored"
        self._known = {image.tobytes(): torch.from_numpy(row) for image, row in zip(images, embeddings, strict=True)}

    def embed(self, images: Tensor) -> Tensor:
        """Look `[B, 3, H, W] uint8` faces up."""
        return torch.stack([self._known[image.numpy().tobytes()] for image in images])


def teacher_embeddings(args: argparse.Namespace, pairs: pk.Pairs) -> npt.NDArray[np.float32]:
    """Return `[M, T] float32` unit embeddings of the pairs' images, from the file or by the teacher."""
    if args.embeddings is None:
        teacher = pk.load_teacher(args.teacher, threads=torch.get_num_threads())
        return embed_images(teacher, pairs.images, progress=True)
    stored = np.load(args.embeddings, allow_pickle=False)
    first = stored[:, 0] if stored.ndim == 3 else stored
    if len(first) != len(pairs.images):
        raise pk.UserError(f"expected embeddings of {len(pairs.images)} images, found {len(first)}")
    return F.normalize(torch.from_numpy(first.astype(np.float32)), dim=1).numpy()


def through(whole: npt.NDArray[np.float32], projection: Tensor) -> npt.NDArray[np.float32]:
    """Project `[M, T]` embeddings to `[M, dim]`, of unit length again."""
    return F.normalize(torch.from_numpy(whole) @ projection, dim=1).numpy()


def projected_classifiers(
    classifier: pk.InheritedClassifier, dims: Sequence[int], kinds: Sequence[str], seeds: Sequence[int]
) -> dict[tuple[int, str], list[pk.InheritedClassifier]]:
    """Return the projected classifiers of every dimension and kind; only a random one has more than one seed."""
    return {
        (dim, kind): [project(classifier, dim, how=kind, seed=s) for s in (seeds if kind == "random" else seeds[:1])]
        for dim in dims
        for kind in kinds
    }


def projection_of(classifier: pk.InheritedClassifier) -> Tensor:
    """Return the projection that :func:`project` has left."""
    assert classifier.projection is not None
    return classifier.projection


def value_of(mode: ModeResult, metric: str) -> float:
    """Return a metric on all pairs."""
    if metric == "accuracy":
        return mode.accuracy.value
    return mode.auc.value if metric == "auc" else mode.tar[far_of(metric)].value


def estimates(scores: Floats, pairs: pk.Pairs, metrics: Sequence[str]) -> Iterator[str]:
    """Yield `93.1 [92.0, 94.2]` for every metric: the mean over `[S, P]` of S seeds, in %."""
    fars = [far_of(metric) for metric in metrics if metric not in ("accuracy", "auc")]
    found = [measure(run, pairs, replicates=0, fars=fars) for run in scores]
    drawn = [bootstrap({metric: make_metric(metric) for metric in metrics}, run, pairs) for run in scores]
    for metric in metrics:
        value = np.mean([value_of(mode, metric) for mode in found])
        low, high = interval(np.mean([run[metric] for run in drawn], axis=0)) or (np.nan, np.nan)
        yield f"{100 * value:.2f} [{100 * low:.2f}, {100 * high:.2f}]"


def print_table(title: str, rows: Mapping[str, Floats], pairs: pk.Pairs, metrics: Sequence[str]) -> None:
    """Print one row a model, `[S, P]` scores each."""
    print(f"\n{title}\n\n| embeddings | " + " | ".join(metrics) + " |\n|" + "---|" * (1 + len(metrics)))
    for name, scores in rows.items():
        print(f"| {name} | " + " | ".join(estimates(scores, pairs, metrics)) + " |", flush=True)


def print_differences(title: str, scores: Scores, pairs: pk.Pairs, metrics: Sequence[str]) -> None:
    """Print ours minus every other kind with its paired interval, in points."""
    print(f"\n{title}\n\n| dimension | minus | " + " | ".join(metrics) + " |\n|" + "---|" * (2 + len(metrics)))
    for (dim, kind), other in scores.items():
        if kind == OURS or (dim, OURS) not in scores:
            continue
        cells = []
        for metric in metrics:
            found = paired_difference(scores[dim, OURS], other, pairs, metric=metric)
            cells.append(f"{100 * found.value:+.2f} [{100 * found.lower:+.2f}, {100 * found.upper:+.2f}]")
        print(f"| {dim} | {KINDS[kind]} | " + " | ".join(cells) + " |", flush=True)


def compare_teachers(
    classifier: pk.InheritedClassifier, whole: npt.NDArray[np.float32], args: argparse.Namespace, pairs: pk.Pairs
) -> None:
    """Print what the teacher loses through every projection."""
    made = projected_classifiers(classifier, args.dims, args.kinds, args.random_seeds)
    scores, rows = {}, {f"{whole.shape[1]}, whole": pair_scores(whole, whole, pairs)[None]}
    for (dim, kind), classifiers in made.items():
        maps = [projection_of(found) for found in classifiers]
        small = [through(whole, map_) for map_ in maps]
        scores[dim, kind] = np.stack([pair_scores(each, each, pairs) for each in small])
        error = np.mean([cosine_error(torch.from_numpy(whole), map_) for map_ in maps])
        rows[f"{dim}, {KINDS[kind]} (cosines of the pairs' images change by {error:.4f})"] = scores[dim, kind]
    print_table("The teacher, gallery and probe projected", rows, pairs, args.metrics)
    print_differences("The teacher: cosines kept, minus the other projections", scores, pairs, args.metrics)


def student_of(folder: Path, classifier: pk.InheritedClassifier, settings: Sequence[str]) -> None:
    """Train once, going on where an earlier attempt stopped."""
    if not (folder / "student.safetensors").exists():
        recipe, begun = pk.load_recipe(None, list(settings)), (folder / "recipe.toml").exists()
        pk.distill(recipe, folder, classifier=classifier, resume=begun)


def compare_students(
    classifier: pk.InheritedClassifier, gallery: Stored, args: argparse.Namespace, pairs: pk.Pairs
) -> None:
    """Train a student through every projection, with every seed, and print both modes."""
    scores: dict[str, dict[tuple[int, str], Floats]] = {"single": {}, "cross": {}}
    for dim in args.dims:
        for kind in args.kinds:
            found = []
            for seed in args.seeds:
                folder = args.students / f"{dim}-{kind}-{seed}"
                small = project(classifier, dim, how=kind, seed=seed)
                student_of(folder, small, [*args.settings, f"seed={seed}"])
                found.append(pk.evaluate_into(folder, folder, pairs, gallery=gallery, projection=small.projection))
            for mode, kept in scores.items():
                kept[dim, kind] = np.stack([result.modes()[mode].scores for result in found])
    for mode, kept in scores.items():
        rows = {f"{dim}, {KINDS[kind]}": values for (dim, kind), values in kept.items()}
        print_table(f"Students of {len(args.seeds)} seeds, {mode} mode", rows, pairs, args.metrics)
        print_differences(
            f"Students, {mode} mode: cosines kept, minus the other projections", kept, pairs, args.metrics
        )


def main() -> None:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--classifier", type=Path, required=True, help="inherited from the teacher, not projected")
    parser.add_argument("--pairs", type=Path, required=True)
    parser.add_argument("--root", type=Path, help="folder of the pairs' images")
    parser.add_argument("--teacher", default="teacher", help="its location, or with --embeddings any name")
    parser.add_argument("--embeddings", type=Path, help="the teacher's embeddings of the pairs' images, .npy")
    parser.add_argument("--dims", type=int, nargs="+", default=[256, 128])
    parser.add_argument("--kinds", nargs="+", choices=list(KINDS), default=list(KINDS))
    parser.add_argument("--metrics", nargs="+", default=list(METRICS))
    parser.add_argument("--random-seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4], help="of random projections")
    parser.add_argument("--students", type=Path, help="train students into this folder instead")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="of the students")
    parser.add_argument("settings", nargs="*", help="section.key=value, equal for all students")
    args = parser.parse_args()
    pairs = pk.read_pairs(args.pairs, args.root)
    classifier = pk.InheritedClassifier.load(args.classifier)
    whole = teacher_embeddings(args, pairs)
    if args.students is None:
        compare_teachers(classifier, whole, args, pairs)
    else:
        compare_students(classifier, Stored(Path(args.teacher).stem, pairs.images, whole), args, pairs)


if __name__ == "__main__":
    main()
