"""The verb that says what this installation can do."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from proxylesskd.cli.app import app


@app.command()
def doctor(
    speed: Annotated[bool, typer.Option(help="Measure decoding and matrix products, two seconds.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say what is installed, how fast it is, and what a verb lacks with the command that brings it."""
    from proxylesskd.doctor.examine import examine

    found = examine(speed=speed)
    typer.echo(json.dumps(found.to_dict(), indent=1) if as_json else str(found))
    raise typer.Exit(0 if found.healthy else 1)
