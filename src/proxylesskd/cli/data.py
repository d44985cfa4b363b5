"""Verbs for images: render, look at, convert."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from proxylesskd.cli.app import app
from proxylesskd.cli.options import Out, Quiet, Seed


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
    source: Annotated[str, typer.Argument(help="A folder or source URI: folder:…, rec:…, wds:…, parquet:….")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of page and pictures.")] = Path("inspection"),
    teacher: Annotated[str | None, typer.Option(help="Finds near duplicates under two identities.")] = None,
    sample: Annotated[int, typer.Option(help="Images to read, evenly spaced; 0 reads all.")] = 5000,
    threshold: Annotated[float, typer.Option(help="Cosine from which two images are near duplicates.")] = 0.9,
    identities: Annotated[int, typer.Option(help="Rows of the sheet.")] = 10,
    images: Annotated[int, typer.Option(help="Faces in a row.")] = 10,
    quiet: Quiet = False,
) -> None:
    """Counts, broken files, colours, alignment, duplicates, the mean face and a sheet of faces: a page and JSON."""
    from proxylesskd.data.source import open_source
    from proxylesskd.inspection.inspect import inspect_source
    from proxylesskd.inspection.page import write_inspection
    from proxylesskd.progress import bar
    from proxylesskd.teacher import load_teacher

    opened = open_source(source)
    embedder = None if teacher is None else load_teacher(teacher)
    with bar("reading images", quiet) as show:
        found = inspect_source(opened, sample=sample or None, teacher=embedder, threshold=threshold, progress=show)
    typer.echo(str(found))
    typer.echo(f"look at it: {write_inspection(found, opened, out, identities=identities, images=images)}")


@app.command()
def convert(
    source: Annotated[str, typer.Argument(help="A folder or source URI to read.")],
    out: Annotated[
        str,
        typer.Argument(help="folder:OUT, rec:OUT, wds:OUT, parquet:OUT, lmdb:OUT or csv:OUT; OUT alone means rec:OUT."),
    ],
    overwrite: Annotated[bool, typer.Option(help="Replace a set of the same format that stands there.")] = False,
    quiet: Quiet = False,
) -> None:
    """Write a source in another format; the encoded images stay as they are. Killed, it goes on when called again."""
    from proxylesskd.data.convert import bare_target
    from proxylesskd.data.convert import convert as write
    from proxylesskd.progress import bar

    target = bare_target(out)
    with bar("writing images", quiet) as show:
        written = write(source, target, progress=show, overwrite=overwrite)
    typer.echo(f"{written.images} images written, {len(written.skipped)} that cannot be read left out")
    for what in list(written.skipped.values())[:5]:
        typer.echo(f"left out: {what}")
    typer.echo(f"open it as {target}")
