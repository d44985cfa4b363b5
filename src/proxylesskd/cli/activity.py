"""Verbs for human activity: the same methods, loop and report on windows of sensor data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from proxylesskd.cli.app import app
from proxylesskd.cli.options import Out, Overrides, Quiet, RecipeFile, Resume, Seed

activity = typer.Typer(no_args_is_help=True, help="Beyond faces: name what people do from body-worn sensors.")
app.add_typer(activity, name="activity")

Runs = Annotated[list[Path], typer.Argument(help="Run folders.")]


def _learn(out: Path, given: list[str], recipe: Path | None, teacher: Path | None, resume: bool, quiet: bool) -> None:
    from proxylesskd.activity.learn import learn
    from proxylesskd.activity.plan import Plan
    from proxylesskd.recipe import laid_over
    from proxylesskd.report.classifiers import compare_runs

    found = learn(laid_over(Plan(), recipe, given), out, teacher=teacher, resume=resume, quiet=quiet)
    typer.echo(f"accuracy {found.accuracy:.4f}, macro F1 {found.macro_f1:.4f}, {len(found.asked)} test subjects")
    typer.echo(f"report: {compare_runs(out, {out.resolve().name: out})}")


@activity.command()
def train(
    out: Out, overrides: Overrides = None, recipe: RecipeFile = None, resume: Resume = False, quiet: Quiet = False
) -> None:
    """Train a network with its own classifier: a teacher, unless model.name and method.name say otherwise."""
    _learn(out, ["model.name=mixer", "method.name=alone", *(overrides or [])], recipe, None, resume, quiet)


@activity.command()
def distill(
    out: Out,
    overrides: Overrides = None,
    teacher: Annotated[Path | None, typer.Option(help="Run folder of the teacher.")] = None,
    recipe: RecipeFile = None,
    resume: Resume = False,
    quiet: Quiet = False,
) -> None:
    """Train a reservoir by method.name: proxyless, kl, js, labels, ridge, or a sum such as 'proxyless + rkd'."""
    method = "labels" if teacher is None else "proxyless"
    _learn(out, [f"method.name={method}", *(overrides or [])], recipe, teacher, resume, quiet)


@activity.command()
def evaluate(
    runs: Runs, out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder of a page of all of them.")] = None
) -> None:
    """Score runs on the test subjects of their recipes, and set them side by side."""
    from proxylesskd.activity.learn import evaluate as find
    from proxylesskd.report.classifiers import compare_runs

    for run in runs:
        found = find(run)
        typer.echo(f"{run}: accuracy {found.accuracy:.4f}, macro F1 {found.macro_f1:.4f}")
    typer.echo(f"report: {compare_runs(out or runs[0], {run.resolve().name: run for run in runs})}")


@activity.command()
def export(run: Annotated[Path, typer.Argument(help="Run folder.")]) -> None:
    """Write ONNX for whole windows and, of a reservoir, for one patch at a time; checked against PyTorch."""
    from proxylesskd.activity.export import export as write

    for path in write(run):
        typer.echo(path)


@activity.command()
def demo(out: Out = Path("activity-demo"), seed: Seed = 0, quiet: Quiet = False) -> None:
    """Teacher, reservoirs alone and distilled, baselines and a page, on synthetic gaits, in minutes."""
    from proxylesskd.activity.demo import run_demo

    typer.echo(f"open {run_demo(out, seed=seed, quiet=quiet)}")
