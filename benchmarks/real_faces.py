"""ProxylessKD against the student alone on real faces, for one or more teachers: train, evaluate, print the table.

    python benchmarks/real_faces.py --faces faces --pairs lfw-pairs.txt --root lfw --out runs/real \
        --teacher sface.onnx --teacher other.onnx:mean=127,std=128 model.width=0.5 model.image_size=56 train.epochs=3

Each stage is what the verb of the same name does; a finished stage is not repeated. Settings behind the options are
equal for both students. The identities of the faces must not be those of the pairs.
"""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path

import torch
from rich.console import Console
from torch import Tensor

import proxylesskd as pk
from proxylesskd.evaluation import Evaluation, comparison_table, paired_difference
from proxylesskd.models.embedder import Embedder
from proxylesskd.models.location import split_location

FARS = (1e-1, 1e-2, 1e-3)


class Remembered:
    """An embedder that embeds equal batches once: the teacher's gallery serves every student."""

    def __init__(self, embedder: Embedder) -> None:
        self.dim, self.name, self.fingerprint = embedder.dim, embedder.name, embedder.fingerprint
        self._embedder = embedder
        self._known: dict[str, Tensor] = {}

    def embed(self, images: Tensor) -> Tensor:
        """Embed, or remember."""
        key = hashlib.sha256(images.numpy().tobytes()).hexdigest()
        if key not in self._known:
            self._known[key] = self._embedder.embed(images)
        return self._known[key]


def classifier_of(teacher: Embedder, faces: str, images: int, path: Path) -> pk.InheritedClassifier:
    """Inherit once."""
    if not path.exists():
        pk.inherit(teacher, pk.open_source(faces), images_per_identity=images, progress=True).save(path)
    return pk.InheritedClassifier.load(path)


def student_of(folder: Path, recipe: pk.Recipe, classifier: pk.InheritedClassifier | None) -> Path:
    """Train once, going on where an earlier attempt stopped."""
    begun = (folder / "recipe.toml").exists()
    if not any((folder / name).exists() for name in ("student.safetensors", "model.safetensors")):
        if classifier is None:
            pk.train(recipe, folder, resume=begun)
        else:
            pk.distill(recipe, folder, classifier=classifier, resume=begun)
    return folder


def compare(location: str, args: argparse.Namespace, pairs: pk.Pairs) -> tuple[str, dict[str, Evaluation]]:
    """Run everything for one teacher."""
    teacher = Remembered(pk.load_teacher(location, threads=torch.get_num_threads()))
    name = split_location(location)[0].stem
    place = args.out / name
    place.mkdir(parents=True, exist_ok=True)
    classifier = classifier_of(teacher, args.faces, args.images_per_identity, place / "classifier.safetensors")
    common = [f"data.train={args.faces}", f"seed={args.seed}", *args.settings]
    ours = pk.load_recipe(None, common)
    alone = pk.load_recipe(None, [*common, "method.name=alone", f"model.dim={teacher.dim}"])
    students = {
        "student alone": student_of(place / "alone", alone, None),
        "ProxylessKD": student_of(place / "student", ours, classifier),
    }
    results = {"teacher": pk.evaluate_into(place / "teacher", teacher, pairs, name="teacher")}
    for label, folder in students.items():
        results[label] = pk.evaluate_into(folder, folder, pairs, gallery=teacher, name=label)
    return f"{name}, {teacher.dim}-d", results


def main() -> None:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faces", required=True, help="source of training faces")
    parser.add_argument("--pairs", type=Path, required=True)
    parser.add_argument("--root", type=Path, required=True, help="folder of the pairs' images")
    parser.add_argument("--teacher", action="append", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--images-per-identity", type=int, default=0, help="images that make a class centre; 0: all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("settings", nargs="*", help="section.key=value, equal for both students")
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    console, pairs = Console(width=130), pk.read_pairs(args.pairs, args.root)
    for location in args.teacher:
        title, results = compare(location, args, pairs)
        console.rule(title)
        console.print(comparison_table(results, FARS))
        for far in FARS:
            ours, alone = results["ProxylessKD"].single.scores, results["student alone"].single.scores
            found = paired_difference(ours, alone, pairs, metric=f"tar@far={far!r}")
            console.print(
                f"ProxylessKD minus alone, TAR@FAR={far:g}: {100 * found.value:+.1f} points, 95 % interval "
                f"{100 * found.lower:+.1f} to {100 * found.upper:+.1f}, paired bootstrap over {found.unit}"
            )


if __name__ == "__main__":
    main()
