"""Which rows to inherit: plain, robust or fitted ones, for the same student at equal budget, over several seeds.

    python benchmarks/inheritance.py --faces folder:faces --pairs lfw-pairs.txt --root lfw --out runs/rows \
        --teacher sface.onnx:mean=0,std=1 --seeds 0 1 2 model.width=0.25 model.image_size=56 train.epochs=2
    python benchmarks/inheritance.py … --noise 0.05   # the same with that share of the images under a wrong label

Teacher embeddings are computed once and kept; finished stages are not repeated. Planted noise moves images to another
identity, drawn anew for every seed, for the rows and for the student alike, or with `--noise-in rows` for the rows
alone. Prints Markdown tables.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

import proxylesskd as pk
from proxylesskd.classifier.embed_source import embed_source
from proxylesskd.classifier.embedded import EmbeddedSource
from proxylesskd.classifier.inherit import inherit_embedded
from proxylesskd.data.source import Source
from proxylesskd.evaluation import paired_difference
from proxylesskd.evaluation.evaluation import measure
from proxylesskd.models.location import split_location
from proxylesskd.teacher import Teacher

FARS = (1e-1, 1e-2)
ROWS = ("mean", "robust", "fitted")


class Relabelled:
    """A source with other labels: the same images under the names that ``labels [N]`` say."""

    def __init__(self, source: Source, labels: np.ndarray) -> None:
        self._source = source
        self.identities, self.labels = source.identities, labels

    def __len__(self) -> int:
        return len(self._source)

    def read(self, index: int) -> tuple[bytes, int]:
        """Return the bytes of an image and its new label."""
        return self._source.read(index)[0], int(self.labels[index])

    def name(self, index: int) -> str:
        """Return what the source calls the image."""
        return self._source.name(index)


class Gallery:
    """The teacher's embeddings of the pairs' images, computed once: they are the same for every student."""

    def __init__(self, teacher: Teacher, pairs: pk.Pairs, file: Path) -> None:
        self.dim, self.name, self.fingerprint = teacher.dim, teacher.name, teacher.fingerprint
        if not file.exists():
            parts = [teacher.embed(torch.tensor(pairs.images[i : i + 128])) for i in range(0, len(pairs.images), 128)]
            np.save(file, torch.cat(parts).numpy())
        self._known = torch.from_numpy(np.load(file))
        self._next = 0

    def embed(self, images: torch.Tensor) -> torch.Tensor:
        """Return the next embeddings: an evaluation asks for all images, in order."""
        start = self._next
        self._next = (start + len(images)) % len(self._known)
        return self._known[start : start + len(images)]


@dataclass(frozen=True)
class World:
    """What every student of one teacher shares."""

    place: Path
    faces: str
    source: Source
    embedded: EmbeddedSource
    gallery: Gallery
    pairs: pk.Pairs
    settings: Sequence[str]
    noise: float
    noisy_training: bool


def plant_noise(labels: np.ndarray, share: float, count: int, seed: int) -> np.ndarray:
    """Return labels of which ``share``, drawn at random, are those of another identity; none loses its first image."""
    random = np.random.default_rng(seed)
    _, firsts = np.unique(labels, return_index=True)
    movable = np.setdiff1d(np.arange(len(labels)), firsts)
    wrong = random.choice(movable, round(share * len(labels)), replace=False)
    noisy = labels.copy()
    noisy[wrong] = (labels[wrong] + random.integers(1, count, len(wrong))) % count
    return noisy


def scores_of(world: World, rows: str, seed: int) -> dict[str, np.ndarray]:
    """Train and evaluate one student, unless that is done, and return its scores ``[P]`` in both modes."""
    where = "" if world.noisy_training else "-rows"
    name = f"{rows}-{seed}" + (f"-noise{world.noise:g}{where}" if world.noise else "")
    folder = world.place / name
    if not (folder / "scores.npz").exists():
        labels = plant_noise(world.source.labels, world.noise, len(world.source.identities), seed)
        embedded = replace(world.embedded, labels=np.where(world.embedded.labels < 0, -1, labels))
        classifier = inherit_embedded(embedded, rows=rows)
        classifier.save(world.place / f"{name}.safetensors")
        recipe = pk.load_recipe(None, [f"data.train={world.faces}", f"seed={seed}", *world.settings])
        begun = (folder / "recipe.toml").exists()
        source = Relabelled(world.source, labels) if world.noisy_training else world.source
        if not (folder / "student.safetensors").exists():
            pk.distill(recipe, folder, classifier=classifier, source=source, resume=begun, audit=False)
        pk.evaluate_into(folder, folder, world.pairs, gallery=world.gallery, replicates=0)
    return dict(np.load(folder / "scores.npz"))


def table(world: World, kinds: Sequence[str], seeds: Sequence[int]) -> Iterator[str]:
    """Yield the rates of every kind of rows and their difference from the plain mean, as Markdown."""
    found = {kind: [scores_of(world, kind, seed) for seed in seeds] for kind in kinds}
    for mode in ("single", "cross"):
        for kind in kinds:
            scores = [run[mode] for run in found[kind]]
            cells = [kind, mode]
            for metric in ("accuracy", *(f"tar@far={far!r}" for far in FARS), "auc"):
                each = [measured(run, world.pairs, metric) for run in scores]
                cell = f"{100 * np.mean(each):.1f} ({100 * min(each):.1f} to {100 * max(each):.1f})"
                if kind != kinds[0]:
                    base = np.stack([run[mode] for run in found[kinds[0]]])
                    gain = paired_difference(np.stack(scores), base, world.pairs, metric=metric)
                    cell += f" {100 * gain.value:+.1f} [{100 * gain.lower:+.1f}, {100 * gain.upper:+.1f}]"
                cells.append(cell)
            yield "| " + " | ".join(cells) + " |"


def measured(scores: np.ndarray, pairs: pk.Pairs, metric: str) -> float:
    """Return one rate of one run."""
    result = measure(scores, pairs, replicates=0, fars=FARS)
    if metric in ("accuracy", "auc"):
        return float(getattr(result, metric).value)
    return result.tar[float(metric.partition("=")[2])].value


def open_world(location: str, args: argparse.Namespace, pairs: pk.Pairs) -> World:
    """Embed the faces with one teacher."""
    teacher = pk.load_teacher(location, threads=torch.get_num_threads())
    place = args.out / split_location(location)[0].stem
    place.mkdir(parents=True, exist_ok=True)
    source = pk.open_source(args.faces)
    embedded = embed_source(teacher, source, folder=place / "embeddings", progress=True)
    gallery = Gallery(teacher, pairs, place / "gallery.npy")
    noisy = args.noise_in == "both"
    return World(place, args.faces, source, embedded, gallery, pairs, args.settings, args.noise, noisy)


def main() -> None:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faces", required=True, help="source of training faces")
    parser.add_argument("--pairs", type=Path, required=True)
    parser.add_argument("--root", type=Path, required=True, help="folder of the pairs' images")
    parser.add_argument("--teacher", action="append", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--rows", nargs="+", default=list(ROWS), choices=ROWS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--noise", type=float, default=0.0, help="share of images that get a wrong label")
    parser.add_argument("--noise-in", choices=("both", "rows"), default="both", help="rows and training, or rows alone")
    args, args.settings = parser.parse_known_args()
    pairs = pk.read_pairs(args.pairs, args.root)
    for location in args.teacher:
        world = open_world(location, args, pairs)
        print(f"\n{world.gallery.name}, {world.gallery.dim}-d: mean over {len(args.seeds)} seeds (lowest to highest)")
        print(f"and, from the second kind on, difference from '{args.rows[0]}' with its 95 % interval\n")
        titles = ["rows", "mode", "accuracy", *(f"TAR@FAR={far:g}" for far in FARS), "AUC"]
        print("| " + " | ".join(titles) + " |\n|" + "---|" * len(titles))
        print("\n".join(table(world, args.rows, args.seeds)))


if __name__ == "__main__":
    main()
