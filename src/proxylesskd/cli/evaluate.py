"""The verb that measures: pairs and published protocols, single-model and across models."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from proxylesskd.cli.app import app
from proxylesskd.cli.options import Quiet, Seed
from proxylesskd.errors import UserError

if TYPE_CHECKING:
    from proxylesskd.evaluation import Evaluation


@app.command()
def evaluate(
    model: Annotated[str, typer.Argument(help="Run folder, weights or ONNX of the probe model.")],
    sets: Annotated[
        list[str],
        typer.Argument(
            metavar="SET …",
            help="InsightFace .bin, LFW pairs.txt, CSV; ijbb:, ijbc:, rfw:, blufr:, openset:, allpairs:, own:PATH.",
        ),
    ],
    gallery: Annotated[
        list[str] | None, typer.Option(help="Model that made the gallery: the teacher. Twice for two in one space.")
    ] = None,
    classifier: Annotated[
        Path | None,
        typer.Option("--classifier", "-c", help="Holds the gallery's projection."),
    ] = None,
    root: Annotated[Path | None, typer.Option(help="Folder of the images of a list.")] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder; the model's run folder unless told.")] = None,
    flip: Annotated[
        bool | None, typer.Option("--flip/--no-flip", help="Add the mirror image's embedding; IJB's habit.")
    ] = None,
    quality: Annotated[
        list[str] | None, typer.Option(help="IJB: weigh images by 'detector' score and by 'norm'; 'none' for neither.")
    ] = None,
    cache: Annotated[
        Path | None, typer.Option(help="Where protocols keep embeddings; a folder of this user unless told.")
    ] = None,
    replicates: Annotated[
        int | None, typer.Option(help="Bootstrap replicates; 1,000 unless told. BLUFR has none.")
    ] = None,
    seed: Seed = 0,
    quiet: Quiet = False,
) -> None:
    """Verify pairs and take protocols, single-model and, with --gallery, across models: JSON, tables and SVG."""
    from proxylesskd.finish import gallery_of

    folder = out or (Path(model) if Path(model).is_dir() else Path("evaluation"))
    common: dict[str, Any] = {"gallery": gallery_of(gallery or []), "projection": classifier, "root": root}
    common |= {"flip": flip, "replicates": replicates, "seed": seed, "progress": not quiet}
    has = {text: _options_of(text) for text in sets}  # what cannot be taken stops before an hour's work on the others
    _check_options(common | {"quality": quality}, has)
    first = next((text for text in sets if has[text] is PAIRS), None)
    for text in sets:
        own = {name: value for name, value in common.items() if name in has[text]}
        if has[text] is PAIRS:
            _verify(text, model, folder, main=text == first, **own)
        else:
            own |= {"quality": quality} if "quality" in has[text] else {}
            _take(text, model, folder, cache, **own)
    typer.echo(f"numbers and pictures: {folder}")


PAIRS = frozenset({"gallery", "projection", "root", "flip", "replicates", "seed", "progress"})


def _options_of(text: str) -> frozenset[str]:
    """Return what a set can be told: that of pairs, or of its protocol."""
    from proxylesskd.protocols.take import check_protocol, protocol_of

    if protocol_of(text) is not None:
        return check_protocol(text)
    if not Path(text).is_file():
        raise UserError(f"expected a verification set (.bin, pairs.txt, .csv) or a protocol, found no file '{text}'")
    return PAIRS


def _check_options(options: dict[str, Any], has: dict[str, frozenset[str]]) -> None:
    """Stop on what none of the sets can be told; each is told what it can be."""
    for name, value in options.items():
        if value is not None and not any(name in each for each in has.values()):
            raise UserError(f"expected no {name} for {', '.join(has)}, found one; leave it out")


def _take(text: str, model: str, folder: Path, cache: Path | None, **options: Any) -> None:
    """Take a protocol, print what was found and leave it in the folder."""
    from proxylesskd.protocols.take import evaluation_folder, save_outcome, take_protocol

    if options.get("quality") == ["none"]:
        options["quality"] = ()
    for outcome in take_protocol(text, model, cache=cache or evaluation_folder(), **options):
        save_outcome(outcome, folder)
        _print_outcome(outcome)


def _print_outcome(outcome: Any) -> None:
    from rich.console import Console

    from proxylesskd.protocols.table import outcome_table

    Console().print(outcome_table(outcome))


def _verify(
    text: str,
    model: str,
    folder: Path,
    *,
    main: bool,
    root: Path | None,
    flip: bool | None,
    replicates: int | None,
    **options: Any,
) -> None:
    """Verify pairs. The first set is the one that report and card speak of; further ones stand beside it."""
    from rich.console import Console

    from proxylesskd.data.pairs import read_pairs
    from proxylesskd.evaluation import evaluate as measure
    from proxylesskd.finish import evaluate_into
    from proxylesskd.protocols.own import outcome_of
    from proxylesskd.protocols.take import save_outcome

    options |= {"flip": bool(flip), "replicates": 1000 if replicates is None else replicates}
    pairs = read_pairs(text, root)
    found: Evaluation = evaluate_into(folder, model, pairs, **options) if main else measure(model, pairs, **options)
    if not main:
        save_outcome(outcome_of(found), folder)
    Console().print(found.table())
