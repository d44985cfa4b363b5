"""The command line: one verb per command; each parses, calls a function of the library and prints.

Everything is imported inside the verbs, so that ``--help`` answers at once.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from proxylesskd.errors import UserError

if TYPE_CHECKING:
    from proxylesskd.runs import Run

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Out = Annotated[Path, typer.Option("--out", "-o", help="Where to write.")]
Overrides = Annotated[list[str] | None, typer.Argument(help="Recipe overrides: section.key=value …")]
RecipeFile = Annotated[Path | None, typer.Option("--recipe", "-r", help="Recipe in TOML.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on from the newest checkpoint in the folder.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress bars.")]
Seed = Annotated[int, typer.Option(help="Every random choice derives from it.")]


def _show_version(wanted: bool) -> None:
    if wanted:
        from proxylesskd import __version__

        typer.echo(f"proxylesskd {__version__}")
        raise typer.Exit


@app.callback()
def common(
    version: Annotated[bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Say it.")] = False,
) -> None:
    """Distil a large face-recognition model into a small one that lives in its embedding space."""


@app.command()
def synthesize(
    out: Out,
    identities: Annotated[int, typer.Option(help="Identities for training.")] = 200,
    images: Annotated[int, typer.Option(help="Images of each identity.")] = 20,
    test_identities: Annotated[int, typer.Option(help="Further identities, held out for testing.")] = 0,
    seed: Seed = 0,
    workers: Annotated[int | None, typer.Option(help="Processes; all cores unless told.")] = None,
    quiet: Quiet = False,
) -> None:
    """Render aligned synthetic faces: OUT/train and OUT/test, one folder per identity."""
    from proxylesskd.synthetic.synthesize import synthesize as render

    render(
        out,
        identities=identities,
        images=images,
        test_identities=test_identities,
        seed=seed,
        workers=workers,
        progress=not quiet,
    )
    typer.echo(f"faces are in {out}; look at them: proxylesskd inspect {out / 'train'}")


@app.command()
def inspect(
    source: Annotated[str, typer.Argument(help="A folder or source URI: folder:…, rec:…, synthetic:….")],
    sheet: Annotated[Path, typer.Option(help="Contact sheet to write.")] = Path("contact-sheet.png"),
    identities: Annotated[int, typer.Option(help="Rows of the sheet.")] = 10,
    images: Annotated[int, typer.Option(help="Faces in a row.")] = 10,
) -> None:
    """Count images, identities and corrupt files, and draw a contact sheet."""
    from proxylesskd.data.inspect import contact_sheet, inspect_source
    from proxylesskd.data.source import open_source

    opened = open_source(source)
    typer.echo(str(inspect_source(opened)))
    contact_sheet(opened, sheet, identities=identities, images=images)
    typer.echo(f"contact sheet: {sheet}")


@app.command()
def convert(
    source: Annotated[str, typer.Argument(help="A folder or source URI to read.")],
    out: Annotated[Path, typer.Argument(help="Folder for train.rec, train.idx and property.")],
) -> None:
    """Write a source as InsightFace RecordIO; the encoded images stay as they are."""
    from proxylesskd.data.recordio import write_record
    from proxylesskd.data.source import open_source

    write_record(open_source(source), out)
    typer.echo(f"open it as rec:{out}")


@app.command()
def pairs(
    source: Annotated[str, typer.Argument(help="A folder or source URI of test identities.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="A .csv list (folders only) or an InsightFace .bin.")],
    genuine: Annotated[int, typer.Option(help="Pairs of one identity.")] = 3000,
    impostor: Annotated[int, typer.Option(help="Pairs of two identities.")] = 3000,
    seed: Seed = 0,
) -> None:
    """Draw a verification set: pairs in ten identity-disjoint folds."""
    from proxylesskd.data.pairs import make_pairs, write_bin, write_pairs_csv
    from proxylesskd.data.source import open_source

    faces = open_source(source)
    drawn = make_pairs(faces, genuine=genuine, impostor=impostor, seed=seed)
    if out.suffix == ".bin":
        write_bin(drawn, out)
    else:
        write_pairs_csv(drawn, out, root=getattr(faces, "root", None))
    typer.echo(f"{len(drawn.same)} pairs of {len(drawn.images)} images: {out}")


@app.command()
def train(
    out: Out, overrides: Overrides = None, recipe: RecipeFile = None, resume: Resume = False, quiet: Quiet = False
) -> None:
    """Train a backbone with its own classifier: a teacher, or a baseline. Needs data.train=…"""
    from proxylesskd import runs
    from proxylesskd.recipe import load_recipe

    settings = load_recipe(recipe, ["method.name=alone", *(overrides or [])])
    _close_run(runs.train(settings, out, resume=resume, quiet=quiet))


@app.command()
def inherit(
    teacher: Annotated[str, typer.Argument(help="Run folder, checkpoint or ONNX, such as t.onnx:mean=127,std=128.")],
    out: Out,
    data: Annotated[str | None, typer.Option(help="Source whose identities get a row.")] = None,
    key: Annotated[str | None, typer.Option(help="Tensor of a foreign checkpoint that is the last layer.")] = None,
    images_per_identity: Annotated[int, typer.Option(help="Images that make a class centre; 0 for all.")] = 0,
    quiet: Quiet = False,
) -> None:
    """Make the inherited classifier: the teacher's last layer if it has one, else class centres over --data."""
    from proxylesskd.classifier.inherit import inherit_best

    classifier = inherit_best(teacher, data, key=key, images_per_identity=images_per_identity, progress=not quiet)
    classifier.save(out)
    count, dim = classifier.rows.shape
    typer.echo(f"{count} identities x {dim}, {classifier.provenance['how']}: {out}")


@app.command()
def distill(
    out: Out,
    overrides: Overrides = None,
    classifier: Annotated[Path | None, typer.Option("--classifier", "-c", help="The inherited classifier.")] = None,
    recipe: RecipeFile = None,
    resume: Resume = False,
    quiet: Quiet = False,
) -> None:
    """Train a student through the inherited classifier (ProxylessKD). Needs data.train=…"""
    from proxylesskd import runs
    from proxylesskd.recipe import load_recipe

    given = [] if classifier is None else [f"method.classifier={classifier}"]
    _close_run(runs.distill(load_recipe(recipe, [*given, *(overrides or [])]), out, resume=resume, quiet=quiet))


@app.command()
def evaluate(
    model: Annotated[str, typer.Argument(help="Run folder, weights or ONNX of the probe model.")],
    verification: Annotated[str, typer.Argument(metavar="PAIRS", help="InsightFace .bin, LFW pairs.txt or CSV.")],
    gallery: Annotated[str | None, typer.Option(help="Model that made the gallery: the teacher.")] = None,
    root: Annotated[Path | None, typer.Option(help="Folder of the images of a pair list.")] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder; the model's run folder unless told.")] = None,
    flip: Annotated[bool, typer.Option(help="Add the embedding of the mirror image.")] = False,
    replicates: Annotated[int, typer.Option(help="Bootstrap replicates.")] = 1000,
    seed: Seed = 0,
    quiet: Quiet = False,
) -> None:
    """Verify pairs, single-model and, with --gallery, across models: JSON, table, SVG and the most wrong pairs."""
    from rich.console import Console

    from proxylesskd.data.pairs import read_pairs
    from proxylesskd.finish import evaluate_into

    folder = out or (Path(model) if Path(model).is_dir() else Path("evaluation"))
    result = evaluate_into(
        folder,
        model,
        read_pairs(verification, root),
        gallery=gallery,
        flip=flip,
        replicates=replicates,
        seed=seed,
        progress=not quiet,
    )
    Console().print(result.table())
    typer.echo(f"numbers and pictures: {folder}")


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


def _close_run(run: Run) -> None:
    """Say what stands where; an interrupted run is not an error, but it is not finished either."""
    from proxylesskd.report.page import write_report

    if not run.result.finished:
        typer.echo(f"stopped at step {run.result.step} of {run.result.steps}; go on with --resume")
        return
    typer.echo(run.data)
    typer.echo(f"report: {write_report(run.folder)}")


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; wrong input is one line on standard error and exit code 2."""
    from proxylesskd.training.allocator import keep_freed_memory

    keep_freed_memory()
    try:
        code: Any = app(arguments, standalone_mode=True)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    sys.exit(code)


if __name__ == "__main__":
    main()
