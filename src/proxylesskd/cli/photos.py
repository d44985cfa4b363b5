"""The verb for photos: align."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from proxylesskd.cli.app import app
from proxylesskd.cli.options import Quiet


@app.command()
def align(
    photos: Annotated[Path, typer.Argument(metavar="IN", help="Folder of photos: IN/identity/photo.jpg.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder for the faces: OUT/identity/photo.jpg.")],
    detector: Annotated[Path | None, typer.Option(help="YuNet's ONNX file; or PROXYLESSKD_YUNET names it.")] = None,
    landmarks: Annotated[Path | None, typer.Option(help="CSV of known landmarks: path,x1,y1,...,x5,y5.")] = None,
    face: Annotated[str, typer.Option(help="Of several faces: largest, central, or only (take none).")] = "largest",
    score: Annotated[float, typer.Option(help="The least score of a face, between 0 and 1.")] = 0.6,
    size: Annotated[int, typer.Option(help="Height and width of a face in pixels.")] = 112,
    png: Annotated[bool, typer.Option(help="Write PNG instead of JPEG.")] = False,
    quality: Annotated[int, typer.Option(help="Of the JPEG, 1 to 100.")] = 95,
    fallback: Annotated[
        str | None, typer.Option(help="typical: cut where faces usually are if none is found; for evaluation sets.")
    ] = None,
    workers: Annotated[int | None, typer.Option(help="Threads; all cores unless told.")] = None,
    quiet: Quiet = False,
) -> None:
    """Find the face in every photo and cut it out aligned; landmarks and leftovers are listed in OUT."""
    from proxylesskd.photos.align import align_photos
    from proxylesskd.progress import bar

    with bar("aligning photos", quiet) as show:
        done = align_photos(
            photos,
            out,
            detector=detector,
            landmarks=landmarks,
            face=face,
            score=score,
            size=size,
            png=png,
            quality=quality,
            fallback=fallback,
            workers=workers,
            progress=show,
        )
    typer.echo(str(done))
    typer.echo(f"faces are in {out}; look at {out / 'align.png'}")
