"""The verb that says what a training will take, before it is launched."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from proxylesskd.cli.app import app
from proxylesskd.cli.options import Overrides, RecipeFile, Store


@app.command()
def estimate(
    overrides: Overrides = None,
    classifier: Annotated[Path | None, typer.Option("--classifier", "-c", help="The inherited classifier.")] = None,
    recipe: RecipeFile = None,
    identities: Annotated[int, typer.Option(help="Number of rows, where the classifier does not exist yet.")] = 0,
    store: Store = "float32",
    world: Annotated[int, typer.Option(help="Processes that will train together.")] = 1,
    device: Annotated[str, typer.Option(help="cpu, cuda or auto.")] = "auto",
    seconds: Annotated[float, typer.Option(help="That a trial may take.")] = 60.0,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say memory, time and engine of a 'distill' by trying a few steps of it. Needs data.train=…"""
    import json as encoder

    from proxylesskd.estimation.estimate import estimate as find
    from proxylesskd.estimation.text import lines
    from proxylesskd.recipe import load_recipe

    given = [] if classifier is None else [f"method.classifier={classifier}"]
    settings = load_recipe(recipe, [*given, *(overrides or [])])
    found = find(settings, identities=identities, store=store, world=world, device=device, seconds=seconds)
    typer.echo(encoder.dumps(found.to_dict(), indent=2) if json else "\n".join(lines(found)))
