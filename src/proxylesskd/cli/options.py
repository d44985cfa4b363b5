"""Options that several verbs share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Out = Annotated[Path, typer.Option("--out", "-o", help="Where to write.")]
Overrides = Annotated[list[str] | None, typer.Argument(help="Recipe overrides: section.key=value …")]
RecipeFile = Annotated[Path | None, typer.Option("--recipe", "-r", help="Recipe in TOML.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on from the newest checkpoint in the folder.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress bars.")]
Seed = Annotated[int, typer.Option(help="Every random choice derives from it.")]
Store = Annotated[str, typer.Option(help="How rows are stored: float32, bfloat16 or int8.")]
