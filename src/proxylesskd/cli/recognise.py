"""Verbs that use a model on photos: verify, enroll, identify, compatible."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from proxylesskd.cli.app import app
from proxylesskd.cli.options import Quiet, Seed

Model = Annotated[str, typer.Option("--model", "-m", help="Exported .onnx file, run folder, or MODEL:mean=0,std=1.")]
GalleryFile = Annotated[Path, typer.Option("--gallery", "-g", help="The gallery's file.")]
Detector = Annotated[Path | None, typer.Option(help="YuNet's ONNX file; or PROXYLESSKD_YUNET names it.")]
Face = Annotated[str, typer.Option(help="Of several faces: only (refuse the photo), largest, or central.")]
Score = Annotated[float, typer.Option(help="The least score of a face, between 0 and 1.")]
Aligned = Annotated[bool, typer.Option("--aligned", help="Photos are aligned faces of 112x112 pixels already.")]
Calibration = Annotated[
    Path | None, typer.Option(help="Folder of an evaluation, or pairs, for a model without thresholds.")
]
Threshold = Annotated[float | None, typer.Option(help="The least similarity of one person; the model's unless told.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def _print(answer: Any, as_json: bool) -> None:
    typer.echo(json.dumps(answer.to_dict(), indent=1, ensure_ascii=False) if as_json else str(answer))


@app.command()
def verify(
    first: Annotated[Path, typer.Argument(metavar="A", help="A photo.")],
    second: Annotated[Path, typer.Argument(metavar="B", help="Another photo.")],
    model: Model,
    far: Annotated[float, typer.Option(help="False accept rate by which the threshold is chosen.")] = 1e-3,
    threshold: Threshold = None,
    calibration: Calibration = None,
    detector: Detector = None,
    face: Face = "only",
    score: Score = 0.6,
    aligned: Aligned = False,
    as_json: Json = False,
) -> None:
    """Say whether two photos show one person."""
    from proxylesskd.recognition.recognizer import Recognizer

    options: dict[str, Any] = {"detector": detector, "face": face, "score": score, "aligned": aligned}
    recognizer = Recognizer(model, calibration=calibration, **options)
    _print(recognizer.verify(first, second, far=far, threshold=threshold), as_json)


@app.command()
def enroll(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of photos: DIR/identity/photo.jpg.")],
    gallery: GalleryFile,
    model: Model,
    calibration: Calibration = None,
    detector: Detector = None,
    face: Face = "only",
    score: Score = 0.6,
    aligned: Aligned = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Enrol a folder of photos in a gallery; photos that it has are passed over, so it can be gone on with."""
    from proxylesskd.progress import bar
    from proxylesskd.recognition.recognizer import Recognizer

    options: dict[str, Any] = {"detector": detector, "face": face, "score": score, "aligned": aligned}
    recognizer = Recognizer(model, calibration=calibration, **options)
    with bar("enrolling photos", quiet) as show:
        done = recognizer.enroll(folder, gallery, progress=show)
    _print(done, as_json)


@app.command()
def identify(
    photo: Annotated[Path, typer.Argument(metavar="PHOTO", help="A photo.")],
    gallery: GalleryFile,
    model: Model,
    top: Annotated[int, typer.Option("--top", "-k", help="How many of the most similar identities to list.")] = 5,
    fpir: Annotated[float, typer.Option(help="Share of strangers who may be named.")] = 0.01,
    threshold: Threshold = None,
    calibration: Calibration = None,
    projection: Annotated[
        Path | None, typer.Option(help="Classifier or run folder of a student smaller than its teacher.")
    ] = None,
    same_space: Annotated[
        bool, typer.Option("--same-space", help="The model is a student of the gallery's: my word for it.")
    ] = False,
    engine: Annotated[str, typer.Option(help="numpy, or faiss where it is installed.")] = "numpy",
    detector: Detector = None,
    face: Face = "only",
    score: Score = 0.6,
    aligned: Aligned = False,
    as_json: Json = False,
) -> None:
    """Say who of a gallery a photo shows, or nobody; the probe's model made the gallery or is that one's student."""
    from proxylesskd.recognition.recognizer import Recognizer

    options: dict[str, Any] = {"detector": detector, "face": face, "score": score, "aligned": aligned}
    recognizer = Recognizer(model, calibration=calibration, **options)
    asked: dict[str, Any] = {"projection": projection, "same_space": same_space, "engine": engine}
    found = recognizer.identify(photo, gallery, k=top, fpir=fpir, threshold=threshold, **asked)
    _print(found, as_json)
    for candidate in [] if as_json else found.candidates:
        typer.echo(f"  {candidate.similarity:.4f}  {candidate.identity}  ({candidate.photo})")


@app.command()
def compatible(
    teacher: Annotated[str, typer.Argument(help="The model that made the gallery.")],
    student: Annotated[str, typer.Argument(help="The model that shall search it.")],
    pairs: Annotated[Path, typer.Argument(help="Verification set of aligned faces: .bin, pairs.txt or .csv.")],
    root: Annotated[Path | None, typer.Option(help="Folder of the list's images.")] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the page and the numbers.")] = Path("compatible"),
    projection: Annotated[
        Path | None, typer.Option(help="Classifier or run folder of a student smaller than its teacher.")
    ] = None,
    far: Annotated[float | None, typer.Option(help="False accept rate for which the answer is given.")] = None,
    most: Annotated[float, typer.Option(help="Share of genuine pairs that may be lost for a yes.")] = 0.05,
    replicates: Annotated[int, typer.Option(help="Bootstrap replicates.")] = 1000,
    seed: Seed = 0,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Say whether a teacher's gallery may be searched with a student, at what cost and threshold: a page and JSON."""
    from proxylesskd.recognition.compatible import compatible as measure

    asked: dict[str, Any] = {"far": far, "most": most, "replicates": replicates, "seed": seed}
    found = measure(teacher, student, pairs, root=root, projection=projection, progress=not quiet, **asked)
    page = found.save(out)
    _print(found, as_json)
    if not as_json:
        typer.echo(f"page: {page}")
