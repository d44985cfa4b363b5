"""The whole path in minutes, on synthetic faces: what `make demo` runs and what a newcomer reads first.

A teacher learns a set of identities. Two students of equal architecture, data, steps and seed follow: one alone, one
through the teacher's classifier. All three verify identities that nobody has seen, in both modes.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from proxylesskd import runs
from proxylesskd.classifier.from_checkpoint import inherit_from_checkpoint
from proxylesskd.data.pairs import Pairs, make_pairs, write_pairs_csv
from proxylesskd.data.source import open_source
from proxylesskd.errors import UserError
from proxylesskd.evaluation import Evaluation, comparison_table, paired_difference
from proxylesskd.export.ship import Shipment
from proxylesskd.finish import evaluate_into, export_run
from proxylesskd.recipe import Recipe, load_recipe
from proxylesskd.report.differences import PairedDifference, save_differences
from proxylesskd.report.page import name_models, write_report

IDENTITIES, IMAGES, TEST_IDENTITIES = 200, 20, 150
GENUINE, IMPOSTOR = 3000, 30000
# The teacher is somebody else's: with the students' seed, equal first classifiers would align two strange spaces.
ELSEWHERE = 1000
FAR = 1e-2

# Equal for everybody. Crops and colours stand in for the variety that a few thousand images lack.
COMMON = (
    "model.dim=128",
    "model.image_size=56",
    "method.m=0.3",
    "method.scale=32",
    "train.batch=64",
    "train.learning_rate=0.1",
    "augment.crop=0.5",
    "augment.colour=0.3",
    "augment.blur=0.1",
    "augment.low_resolution=0.1",
)
TEACHER = (*COMMON, "method.name=alone", "model.name=iresnet18", "model.width=0.25", "train.epochs=8")
STUDENT = (*COMMON, "method.name=proxyless", "model.name=mobilefacenet", "model.width=0.5", "train.epochs=6")


def run_demo(out: str | Path, *, seed: int = 0, faces: str | Path | None = None, quiet: bool = False) -> Path:
    """Run the main job end to end and return the report to open.

    Args:
        out: an empty or new folder.
        seed: of faces, networks, order and augmentation.
        faces: a folder with ``train`` and ``test`` made by ``synthesize``; made here unless given.
        quiet: draw no progress bars.

    Raises:
        UserError: ``out`` is not empty, or ``faces`` lacks a split.
    """
    out, console, began = Path(out), Console(), time.monotonic()
    if out.exists() and any(out.iterdir()):
        raise UserError(f"expected a new or empty folder for the demo, found files in '{out}'; remove it or give --out")
    place = Path(faces) if faces is not None else _synthesize(out / "faces", seed, quiet, console)
    pairs = _draw_pairs(place, out, seed)
    _train(place, out, seed, quiet, console)
    results = _evaluate(out, pairs, seed, console)
    console.print(comparison_table(results))
    verdicts = [_verdict(results, pairs, mode, seed) for mode in ("single", "cross")]
    save_differences(out / "student", verdicts)
    for verdict in verdicts:
        console.print(verdict.sentence())
    shipment = _ship(out, place, console)
    page = write_report(out / "student")
    console.print(f"student: {shipment.export.path} ({shipment.export.size / 1e6:.2f} MB), card: {shipment.card}")
    console.print(f"done in {time.monotonic() - began:.0f} s")
    return page


def _synthesize(place: Path, seed: int, quiet: bool, console: Console) -> Path:
    from proxylesskd.synthetic.synthesize import synthesize

    console.rule(f"faces: {IDENTITIES} identities for training, {TEST_IDENTITIES} others for testing")
    synthesize(
        place,
        identities=IDENTITIES,
        images=IMAGES,
        test_identities=TEST_IDENTITIES,
        seed=seed,
        progress=not quiet,
    )
    return place


def _draw_pairs(place: Path, out: Path, seed: int) -> Pairs:
    source = open_source(f"folder:{place / 'test'}")
    drawn = make_pairs(source, genuine=GENUINE, impostor=IMPOSTOR, seed=seed)
    pairs = dataclasses.replace(drawn, name="held-out synthetic identities")
    out.mkdir(parents=True, exist_ok=True)
    write_pairs_csv(pairs, out / "test-pairs.csv", root=place / "test")
    return pairs


def _recipe(settings: Sequence[str], place: Path, seed: int) -> Recipe:
    return load_recipe(None, [*settings, f"seed={seed}", f"data.train=folder:{place / 'train'}"])


def _train(place: Path, out: Path, seed: int, quiet: bool, console: Console) -> None:
    """Train the teacher, inherit its last layer, then train both students on equal terms."""
    console.rule("teacher: a backbone with its own classifier")
    _finished(runs.train(_recipe(TEACHER, place, seed + ELSEWHERE), out / "teacher", quiet=quiet))
    classifier = inherit_from_checkpoint(out / "teacher")
    classifier.save(out / "classifier.safetensors")
    console.rule("student alone: learns its own classifier")
    _finished(runs.train(_recipe(STUDENT, place, seed), out / "alone", quiet=quiet))
    console.rule("ProxylessKD: the same student through the teacher's classifier, audited first")
    recipe = _recipe([*STUDENT, f"method.teacher={out / 'teacher'}"], place, seed)
    _finished(runs.distill(recipe, out / "student", classifier=classifier, quiet=quiet))


def _finished(run: runs.Run) -> None:
    """A demo that was interrupted is begun anew; its parts are minutes long."""
    if not run.result.finished:
        raise UserError(f"expected the demo to run to its end, found it stopped in '{run.folder}'; start it anew")


def _evaluate(out: Path, pairs: Pairs, seed: int, console: Console) -> dict[str, Evaluation]:
    """Evaluate all three on identities that nobody has seen, the students in both modes."""
    console.rule("evaluation on held-out identities")
    folders = {"teacher": "teacher", "student alone": "alone", "ProxylessKD": "student"}
    results = {}
    for name, folder in folders.items():
        gallery = None if name == "teacher" else out / "teacher"
        results[name] = evaluate_into(out / folder, out / folder, pairs, gallery=gallery, seed=seed, name=name)
    name_models(out / "student", {name: out / folder for name, folder in folders.items()})
    return results


def _verdict(results: dict[str, Evaluation], pairs: Pairs, mode: str, seed: int) -> PairedDifference:
    """Return the paired bootstrap of ProxylessKD against the student alone."""
    ours, alone = (results[name].modes()[mode].scores for name in ("ProxylessKD", "student alone"))
    found = paired_difference(ours, alone, pairs, metric=f"tar@far={FAR!r}", seed=seed)
    return PairedDifference(
        "ProxylessKD", "student alone", f"{mode}-model", f"TAR@FAR={FAR:g}", found.value, found.lower, found.upper
    )


def _ship(out: Path, place: Path, console: Console) -> Shipment:
    """Export teacher and student, so that the report can set their sizes and speeds side by side."""
    console.rule("export to ONNX, checked on held-out faces")
    faces = open_source(f"folder:{place / 'test'}")
    export_run(out / "teacher", faces)
    return export_run(out / "student", faces)
