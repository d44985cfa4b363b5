"""The whole path on synthetic gaits, in minutes: teacher, reservoirs alone and distilled, ONNX, and a page."""

from __future__ import annotations

from pathlib import Path

from proxylesskd.activity.export import export
from proxylesskd.activity.learn import learn
from proxylesskd.activity.plan import Plan
from proxylesskd.errors import UserError
from proxylesskd.recipe import laid_over
from proxylesskd.report.classifiers import compare_runs

TEACHER = ("model.name=mixer", "model.dim=64", "model.layers=3", "method.name=alone", "data.stretch=0.2")
ALONE = {
    "student alone": ("method.name=labels",),
    "ridge readout": ("method.name=ridge",),
    "DeepConvLSTM x0.25": ("model.name=conv-lstm", "model.width=0.25", "method.name=labels"),
    "teacher": TEACHER,
}
METHODS = {"JS": "js", "KL": "kl", "ProxylessKD": "proxyless"}
TAUGHT = {name: (f"method.name={method}",) for name, method in METHODS.items()}


def run_demo(out: Path, *, seed: int = 0, quiet: bool = False) -> Path:
    """Train all of them on synthetic gaits, export the last one, and return the page that compares them."""
    if out.exists() and any(out.iterdir()):
        raise UserError(f"expected a new or empty folder for the demo, found files in '{out}'; remove it or give --out")
    for name, settings in (ALONE | TAUGHT).items():
        plan = laid_over(Plan(), None, [f"seed={seed}", "train.batch=32", *settings])
        learn(plan, out / name, teacher=out / "teacher" if name in TAUGHT else None, quiet=quiet)
    export(out / "ProxylessKD")
    return compare_runs(out, {name: out / name for name in ALONE | TAUGHT})
