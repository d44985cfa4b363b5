"""The whole path on synthetic gaits, in minutes: teacher, reservoirs alone and distilled, ONNX, and a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from proxylesskd.activity.export import export
from proxylesskd.activity.learn import evaluate, learn
from proxylesskd.activity.plan import Plan
from proxylesskd.errors import UserError
from proxylesskd.evaluation.by_person import difference, read_score
from proxylesskd.export.run_folder import read_json
from proxylesskd.recipe import laid_over
from proxylesskd.report.classifiers import Contender, write_classifiers
from proxylesskd.report.curves import read_rows

TEACHER = (
    "model.name=mixer",
    "model.dim=64",
    "model.layers=3",
    "model.patch=8",
    "method.name=alone",
    "train.epochs=15",
)
RUNS: Mapping[str, Sequence[str]] = {
    "student alone": (),
    "ridge readout": ("method.name=ridge",),
    "DeepConvLSTM x0.25": ("model.name=conv-lstm", "model.width=0.25", "train.epochs=6"),
    "teacher": TEACHER,
    "JS": ("method.name=js",),
    "KL": ("method.name=kl",),
    "ProxylessKD": ("method.name=proxyless",),
}


def run_demo(out: Path, *, seed: int = 0, quiet: bool = False) -> Path:
    """Train all of :data:`RUNS` on synthetic gaits, export the last one, and return the page that compares them."""
    if out.exists() and any(out.iterdir()):
        raise UserError(f"expected a new or empty folder for the demo, found files in '{out}'; remove it or give --out")
    for name, settings in RUNS.items():
        plan = laid_over(Plan(), None, [f"seed={seed}", *settings])
        learn(
            plan,
            out / name,
            teacher=out / "teacher" if (out / "teacher" / "classifier.safetensors").exists() else None,
            quiet=quiet,
        )
    export(out / name)
    return compare_runs(out, {name: out / name for name in RUNS})


def compare_runs(folder: Path, runs: Mapping[str, Path]) -> Path:
    """Write the page of several evaluated runs into a folder, differences being to the first; return its path."""
    found, classes = list[Contender](), list[str]()
    for name, run in runs.items():
        if not (run / "evaluation.json").is_file():
            evaluate(run)
        told = read_json(run / "evaluation.json") or {}
        own, classes = read_score(told), list(told["activities"])
        same = bool(found) and found[0].score.asked == own.asked
        minus = difference([own], [found[0].score]) if same else None
        found.append(Contender(name, own, told["cost"], read_rows(run), minus))
    folder.mkdir(parents=True, exist_ok=True)
    return write_classifiers(folder, classes, found)
