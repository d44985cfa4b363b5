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
    images: Annotated[str, typer.Option(help="Source of training faces: the check, and the ranges of eight bits.")],
    formats: Annotated[
        list[str] | None,
        typer.Option("--format", "-f", help="onnx, fp16, int8, litert, executorch, coreml, or web: a page."),
    ] = None,
    pairs: Annotated[Path | None, typer.Option(help="Verification set of the gate.")] = None,
    root: Annotated[Path | None, typer.Option(help="Folder of the images of a pair list.")] = None,
    taking: Annotated[
        str, typer.Option("--input", help="float, pixels, uint8-nhwc-rgb, uint8-nhwc-bgr or uint8-nchw-rgb.")
    ] = "float",
    flip: Annotated[bool, typer.Option("--flip", help="Add the embedding of the mirrored face inside.")] = False,
    teacher: Annotated[str | None, typer.Option(help="For the first row of the table.")] = None,
    licence: Annotated[str | None, typer.Option(help="Recorded in the files and on the card.")] = None,
    count: Annotated[int, typer.Option(help="Training faces for eight bits and, without pairs, the check.")] = 192,
    architecture: Annotated[str | None, typer.Option(help="package.module:factory of a network of one's own.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Keep also what the gate refuses.")] = False,
    detector: Annotated[
        Path | None, typer.Option(help="web: YuNet's ONNX file; or PROXYLESSKD_YUNET names it.")
    ] = None,
    runtime: Annotated[
        Path | None, typer.Option(help="web: an unpacked onnxruntime-web; npm fetches it otherwise.")
    ] = None,
) -> None:
    """Write ONNX and other files; each is refused unless it decides about faces as the PyTorch network does."""
    from proxylesskd.data.pairs import read_pairs
    from proxylesskd.finish import export_files

    asked = list(dict.fromkeys(formats or ["onnx"]))
    files = [name for name in asked if name != "web"]
    if "web" in asked:
        from proxylesskd.photos.detect import find_model
        from proxylesskd.web.runtime import find_runtime

        find_model(detector), find_runtime(runtime)  # what is missing is told of before minutes of checking
        files = list(dict.fromkeys(["onnx", *files]))
    delivery = export_files(
        run,
        images,
        formats=files,
        pairs=None if pairs is None else read_pairs(pairs, root),
        taking=taking,
        flip_fusion=flip,
        teacher=teacher,
        licence=licence,
        count=count,
        architecture=architecture,
        force=force,
    )
    typer.echo(delivery.table)
    for one in delivery.artefacts:
        typer.echo(f"{one.path} ({one.size / 1e6:.2f} MB)")
    typer.echo(f"checked on real faces; how to use it: {delivery.card}")
    if "web" in asked:
        _write_page(delivery.artefacts[0].path, run / "web", detector, runtime)


def _write_page(student: Path, out: Path, detector: Path | None, runtime: Path | None) -> None:
    from proxylesskd.web.folder import write_page

    page = write_page(student, out, detector=detector, runtime=runtime)
    typer.echo(f"page: {page}; serve it with: python -m http.server --directory {out}")


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
