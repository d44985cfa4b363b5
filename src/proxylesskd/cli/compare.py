"""The verb that sets methods side by side at equal budget."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from proxylesskd.cli.app import app
from proxylesskd.cli.options import Quiet

if TYPE_CHECKING:
    from rich.console import Console

    from proxylesskd.comparison.result import Comparison

STOPPED = 130
WIDTH = 130  # columns of a log


@app.command()
def compare(
    recipe: Annotated[
        list[str] | None, typer.Argument(metavar="[RECIPE.toml] [section.key=value …]", help="What all cells share.")
    ] = None,
    methods: Annotated[
        list[str] | None, typer.Option("--methods", help="Names or sums of methods, such as 'alone + 0.5*rkd'.")
    ] = None,
    seeds: Annotated[list[int] | None, typer.Option("--seeds", help="Of the trainings; 0 unless told.")] = None,
    students: Annotated[
        list[str] | None, typer.Option("--students", help="Networks, such as iresnet18:width=0.5,image_size=56.")
    ] = None,
    pairs: Annotated[Path | None, typer.Option(help="Verification set, of identities no decision was made on.")] = None,
    root: Annotated[Path | None, typer.Option(help="Folder of the images of a pair list.")] = None,
    protocols: Annotated[
        list[str] | None, typer.Option("--protocol", help="Taken beside the pairs: ijbc:FOLDER, own:FILE.csv, ….")
    ] = None,
    teacher: Annotated[str | None, typer.Option(help="Teaches, and makes the gallery of the cross-model mode.")] = None,
    classifier: Annotated[Path | None, typer.Option("--classifier", "-c", help="The inherited classifier.")] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the comparison.")] = Path("comparison"),
    baseline: Annotated[str | None, typer.Option(help="One of the methods; the first unless told.")] = None,
    budget: Annotated[str, typer.Option(help="Equal steps, or equal time as the baseline takes.")] = "steps",
    jobs: Annotated[int, typer.Option("--jobs", "-j", help="Cells at a time; the cores are shared out.")] = 1,
    train: Annotated[bool, typer.Option("--train/--no-train", help="Or only set side by side what is done.")] = True,
    audit: Annotated[bool, typer.Option("--audit/--no-audit", help="Stop where rows and faces do not match.")] = True,
    headline: Annotated[str | None, typer.Option(help="Metric that names the best, such as tar@far=1e-3.")] = None,
    replicates: Annotated[int, typer.Option(help="Bootstrap replicates.")] = 1000,
    listing: Annotated[bool, typer.Option("--list", help="List the methods and their papers.")] = False,
    quiet: Quiet = False,
) -> None:
    """Every method at equal budget: methods x students x seeds in one table with intervals, and a page. Resumable."""
    if listing:
        from proxylesskd.comparison.listing import methods_table

        _wide().print(methods_table())
        return
    from proxylesskd.comparison.compare import compare as find
    from proxylesskd.errors import UserError
    from proxylesskd.recipe import load_recipe

    if pairs is None:
        raise UserError("expected a verification set, found none; give --pairs")
    given = list(recipe or [])
    file = given.pop(0) if given and "=" not in given[0] else None
    shared = {"classifier": classifier, "teacher": teacher}
    changes = [f"method.{key}={value}" for key, value in shared.items() if value is not None]
    found = find(
        load_recipe(file, [*changes, *given]),
        out,
        methods=methods or [],
        pairs=pairs,
        root=root,
        students=students or [],
        seeds=seeds or [0],
        baseline=baseline,
        budget=budget,
        jobs=jobs,
        train=train,
        audit=audit,
        headline=headline,
        replicates=replicates,
        protocols=protocols or (),
        say=None if quiet else typer.echo,
    )
    _close(found)


def _wide() -> Console:
    """Return a console that has room for a table also where it writes into a log."""
    from rich.console import Console

    console = Console()
    return console if console.is_terminal else Console(width=max(console.width, WIDTH))


def _close(found: Comparison) -> None:
    """Print the table and what is missing; the exit code says whether anything is."""
    if found.rows:
        _wide().print(found.table())
        typer.echo(f"table and page: {found.folder / 'report.html'}")
    for one in found.missing:
        typer.echo(f"without numbers: {one}", err=True)
    if found.failed:
        raise typer.Exit(2)
    if found.missing:
        typer.echo("the same command goes on where this one stopped", err=True)
        raise typer.Exit(STOPPED)
