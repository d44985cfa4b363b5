"""The verb that serves recognition over HTTP."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from proxylesskd.cli.app import app
from proxylesskd.cli.recognise import Aligned, Calibration, Detector, Face, GalleryFile, Model, Score


@app.command()
def serve(
    model: Model,
    gallery: GalleryFile,
    host: Annotated[
        str, typer.Option(help="Address to listen on; any but this machine's own needs a token.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 8000,
    workers: Annotated[
        int, typer.Option(min=1, max=64, help="Processes; one that dies is replaced if there are more than one.")
    ] = 1,
    token_file: Annotated[Path | None, typer.Option(help="File of the token; or PROXYLESSKD_TOKEN holds it.")] = None,
    rate: Annotated[float, typer.Option(min=0.01, help="Requests a second of one client, for each worker.")] = 20.0,
    burst: Annotated[int, typer.Option(min=1, help="How many of them may come at once.")] = 40,
    at_once: Annotated[int, typer.Option(min=1, help="Requests that may run at a time in a worker.")] = 8,
    largest: Annotated[int, typer.Option(min=1024, help="Bytes of a request's body.")] = 16 << 20,
    patience: Annotated[float, typer.Option(min=0.1, help="Seconds that a body may take to arrive.")] = 20.0,
    keep_images: Annotated[
        Path | None, typer.Option(help="Folder that enrolled photos are stored in; else none is.")
    ] = None,
    same_space: Annotated[
        bool, typer.Option("--same-space", help="The model is a student of the gallery's: my word for it.")
    ] = False,
    calibration: Calibration = None,
    detector: Detector = None,
    face: Face = "only",
    score: Score = 0.6,
    aligned: Aligned = False,
) -> None:
    """Serve embed, verify, enroll and identify over HTTP (extra "serve"); OpenAPI at /openapi.json."""
    from proxylesskd.serving.run import serve as run

    recognizer: dict[str, Any] = {"model": model, "face": face, "score": score, "aligned": aligned}
    recognizer |= {"detector": _text(detector), "calibration": _text(calibration)}
    service: dict[str, Any] = {"gallery": str(gallery), "each_second": rate, "burst": burst, "at_once": at_once}
    service |= {"largest": largest, "patience": patience, "keep_images": _text(keep_images), "same_space": same_space}
    settings = {"recognizer": recognizer, "service": service}
    listening: dict[str, Any] = {"host": host, "port": port, "workers": workers, "token_file": token_file}
    run(settings, **listening, tell=partial(typer.echo, err=True))


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)
