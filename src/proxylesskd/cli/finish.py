"""Verbs for what is trained: export, report, and the demo of everything."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from proxylesskd.cli.app import app
from proxylesskd.cli.options import Out, Overrides, Quiet, Seed


@app.command()
def export(
    run: Annotated[Path, typer.Argument(help="Run folder.")],
    images: Annotated[str, typer.Option(help="Source of real faces on which the file is checked.")],
    count: Annotated[int, typer.Option(help="How many of them.")] = 64,
    architecture: Annotated[str | None, typer.Option(help="package.module:factory of a network of one's own.")] = None,
) -> None:
    """Write ONNX with a free batch dimension; refused unless it agrees with PyTorch on every face."""
    from proxylesskd.finish import export_run

    shipment = export_run(run, images, count=count, architecture=architecture)
    done = shipment.export
    typer.echo(f"{done.path} ({done.size / 1e6:.1f} MB), checked on real faces; how to use it: {shipment.card}")


@app.command()
def report(run: Annotated[Path, typer.Argument(help="Run folder.")]) -> None:
    """Write the run folder's self-contained report.html."""
    from proxylesskd.report.page import write_report

    typer.echo(write_report(run))


@app.command()
def demo(
    out: Out = Path("demo"),
    seed: Seed = 0,
    faces: Annotated[Path | None, typer.Option(help="Faces of an earlier 'synthesize' with a test split.")] = None,
    quiet: Quiet = False,
) -> None:
    """The whole path on synthetic faces, in minutes: teacher, student alone, ProxylessKD, export, report."""
    from proxylesskd.demo import run_demo

    typer.echo(f"open {run_demo(out, seed=seed, faces=faces, quiet=quiet)}")


@app.command("recipe")
def print_recipe(overrides: Overrides = None) -> None:
    """Print a recipe with every key and its default, to start one's own from."""
    from proxylesskd.recipe import load_recipe

    typer.echo(load_recipe(None, overrides or []).to_toml(), nl=False)


@app.command("list-models")
def list_models() -> None:
    """Name the backbones."""
    from proxylesskd.models.registry import list_models as names

    typer.echo("\n".join(names()))
