"""The verb that draws or packs a verification set, so that one's own benchmark runs wherever the published ones do."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from proxylesskd.cli.app import app
from proxylesskd.cli.options import Quiet, Seed
from proxylesskd.errors import UserError

PAIRS, IMPOSTORS = 3000, 1_000_000
LISTS = (".csv", ".txt", ".bin")


@app.command()
def pairs(
    source: Annotated[str, typer.Argument(help="A folder or source URI of test identities; or a list of pairs.")],
    out: Annotated[str, typer.Option("--out", "-o", help="FILE.csv, InsightFace's FILE.bin, ijbb:DIR or ijbc:DIR.")],
    genuine: Annotated[int | None, typer.Option(help="Pairs of one identity; 3,000.")] = None,
    impostor: Annotated[int | None, typer.Option(help="Pairs of two identities; 3,000, of templates 10^6.")] = None,
    most: Annotated[int, typer.Option(help="ijbb:, ijbc:: images in a template at most.")] = 8,
    root: Annotated[Path | None, typer.Option(help="Folder of the images of a list.")] = None,
    seed: Seed = 0,
    quiet: Quiet = False,
) -> None:
    """Draw a verification set: pairs in ten identity-disjoint folds, or IJB's templates. Or pack a list of pairs."""
    subset, colon, folder = out.partition(":")
    listed = Path(source).suffix in LISTS and Path(source).is_file()
    if root is not None and not listed:
        raise UserError(f"expected a list of pairs with --root, found '{source}'; leave --root out")
    if colon and subset in ("ijbb", "ijbc"):
        if listed or genuine is not None:
            found = f"'{source}'" if listed else "--genuine"
            raise UserError(
                f"expected a source of labelled faces for {subset}:, all of whose pairs count, found {found}"
            )
        _write_templates(source, folder, subset, most, IMPOSTORS if impostor is None else impostor, seed, quiet)
    elif Path(out).suffix not in (".csv", ".bin"):
        raise UserError(f"expected FILE.csv, FILE.bin, ijbb:DIR or ijbc:DIR to write, found '{out}'")
    elif listed:
        _pack(source, Path(out), root, drawn=genuine is not None or impostor is not None)
    else:
        _draw(source, Path(out), PAIRS if genuine is None else genuine, PAIRS if impostor is None else impostor, seed)


def _draw(source: str, out: Path, genuine: int, impostor: int, seed: int) -> None:
    from proxylesskd.data.pairs import make_pairs, write_bin, write_pairs_csv
    from proxylesskd.data.source import open_source

    faces = open_source(source)
    drawn = make_pairs(faces, genuine=genuine, impostor=impostor, seed=seed)
    if out.suffix == ".bin":
        write_bin(drawn, out)
    else:
        write_pairs_csv(drawn, out, root=getattr(faces, "root", None))
    typer.echo(f"{len(drawn.same)} pairs of {len(drawn.images)} images: {out}")


def _pack(listed: str, out: Path, root: Path | None, *, drawn: bool) -> None:
    from proxylesskd.data.pairs import read_pairs, write_bin

    if out.suffix != ".bin" or drawn:
        found = f"'{out}'" if out.suffix != ".bin" else "--genuine or --impostor"
        raise UserError(f"expected FILE.bin to pack the pairs of '{listed}' into, found {found}")
    packed = read_pairs(listed, root)
    write_bin(packed, out)
    typer.echo(f"{len(packed.same)} pairs of {len(packed.images)} images: {out}")


def _write_templates(source: str, folder: str, subset: str, most: int, impostor: int, seed: int, quiet: bool) -> None:
    from proxylesskd.data.source import open_source
    from proxylesskd.progress import bar
    from proxylesskd.protocols.write_ijb import write_ijb

    if not folder:
        raise UserError(f"expected a folder to write, found '{subset}:' alone")
    with bar("writing images", quiet) as tell:
        faces, name = open_source(source), Path(folder).resolve().name
        drawn = {"most": most, "impostors": impostor, "seed": seed}
        written = write_ijb(faces, folder, subset=subset, name=name, progress=tell, **drawn)
    typer.echo(f"{written.images} images written, {len(written.skipped)} that cannot be read left out")
    for what in list(written.skipped.values())[:5]:
        typer.echo(f"left out: {what}")
    typer.echo(f"evaluate with it: proxylesskd evaluate MODEL {subset}:{folder}")
