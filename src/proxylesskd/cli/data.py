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
    out: Annotated[
        str,
        typer.Argument(help="folder:OUT, rec:OUT, wds:OUT, parquet:OUT, lmdb:OUT or csv:OUT; OUT alone means rec:OUT."),
    ],
    overwrite: Annotated[bool, typer.Option(help="Replace a set of the same format that stands there.")] = False,
    quiet: Quiet = False,
) -> None:
    """Write a source in another format; the encoded images stay as they are. Killed, it goes on when called again."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from proxylesskd.data.convert import bare_target
    from proxylesskd.data.convert import convert as write

    target = bare_target(out)
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=Console(stderr=True), disable=quiet) as bar:
        task = bar.add_task("writing images")

        def show(done: int, total: int) -> None:
            if done % 100 == 0 or done == total:
                bar.update(task, completed=done, total=total)

        written = write(source, target, progress=show, overwrite=overwrite)
    typer.echo(f"{written.images} images written, {len(written.skipped)} that cannot be read left out")
    for what in list(written.skipped.values())[:5]:
        typer.echo(f"left out: {what}")
    typer.echo(f"open it as {target}")
