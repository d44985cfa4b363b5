"""A folder of photos to a folder of aligned faces: many at once, to be gone on with, nothing lost without a word."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from proxylesskd.errors import UserError
from proxylesskd.machine import cores
from proxylesskd.photos.cut import Cutter, in_order, single_threaded
from proxylesskd.photos.detect import SCORE, YuNet, find_model
from proxylesskd.photos.faces import Detector, check_choice
from proxylesskd.photos.folder_state import (
    FACES,
    LEFTOVERS,
    OWN_NAMES,
    SHEET,
    kept_faces,
    open_folder,
    write_faces,
    write_leftovers,
)
from proxylesskd.photos.landmarks import Found, line, read_landmarks
from proxylesskd.photos.place import NO_FACE, Leftover
from proxylesskd.photos.plan import Photo, plan
from proxylesskd.photos.sheet import draw_sheet
from proxylesskd.photos.transform import SIZE, Points
from proxylesskd.photos.typical import typical_place

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Alignment:
    """What came of a folder of photos.

    Attributes:
        folder: the faces' folder.
        photos: how many photos there are.
        aligned: how many faces were cut now.
        kept: how many had been cut before.
        typical: how many of all faces stand where faces typically are, for none was found in their photos.
        leftovers: the photos without a face.
        unused: how many of the given landmarks belong to no photo.
    """

    folder: Path
    photos: int
    aligned: int
    kept: int
    typical: int
    leftovers: Sequence[Leftover]
    unused: int

    def __str__(self) -> str:
        """Return the summary as lines of text."""
        reasons = Counter(leftover.reason for leftover in self.leftovers).most_common()
        before = f", {self.kept} of them before" if self.kept else ""
        lines = [f"photos     {self.photos}", f"aligned    {self.aligned + self.kept}{before}"]
        if self.typical:
            lines.append(f"typical    {self.typical} of them by where faces typically are: how=typical in {FACES}")
        counted = ", ".join(f"{count} {reason}" for reason, count in reasons)
        lines.append(f"leftovers  {len(self.leftovers)}" + (f" ({counted}), listed in {LEFTOVERS}" if counted else ""))
        if self.unused:
            lines.append(f"landmarks  {self.unused} given for photos that are not there")
        return "\n".join(lines)


def align_photos(
    photos: Path | str,
    out: Path | str,
    *,
    detector: Path | str | Detector | None = None,
    landmarks: Path | str | None = None,
    face: str = "largest",
    score: float = SCORE,
    size: int = SIZE,
    png: bool = False,
    quality: int = 95,
    fallback: str | None = None,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Alignment:
    """Cut the aligned face out of every photo of a folder.

    ``photos/identity/photo.jpg`` becomes ``out/identity/photo.jpg``; folders may be nested or missing. Beside them
    stand ``landmarks.csv`` (what was found), ``leftovers.csv`` (photos without a face, and why), ``align.png`` (to
    look at) and ``align.json`` (the settings). A run that was ended is gone on with: faces that are there are kept,
    unless ``landmarks`` now says something else of them; leftovers are tried again.

    Args:
        photos: folder of JPEG, PNG, BMP or WebP; EXIF orientation is respected.
        out: folder to write to, new or of an earlier run with the same settings.
        detector: YuNet's ONNX file, or any function of a photo ``[H, W, 3] uint8 RGB`` to
            :class:`~proxylesskd.photos.faces.Faces` that threads may share. Without one, and without ``landmarks``,
            the environment variable ``PROXYLESSKD_YUNET`` names the file.
        landmarks: CSV of known landmarks, used in place of the detector's for the photos in it.
        face: which of several faces is meant: ``"largest"``, ``"central"``, or ``"only"``, which takes none of several.
        score: faces below it are not seen, in (0, 1); for YuNet.
        size: height and width of a face in pixels.
        png: write PNG instead of JPEG.
        quality: of the JPEG, 1 to 100.
        fallback: ``"typical"`` cuts photos without a face where those of the others are; see
            :func:`~proxylesskd.photos.typical.typical_place`.
        workers: threads; all cores if None.
        progress: called with (photos done, photos).

    Raises:
        UserError: an argument out of range, no detector or one that cannot be used, nothing to align, or an ``out``
            that holds something else.
    """
    check_choice(face)
    _check_numbers(size, quality, workers, fallback)
    photos, out = Path(photos), Path(out)
    listed = plan(photos, out, ".png" if png else ".jpg", OWN_NAMES)
    given = {} if landmarks is None else read_landmarks(landmarks)
    detect = _detector(detector, score, needed=landmarks is None)
    _check_given(given, listed, landmarks)
    jpeg = None if png else quality
    open_folder(out, {"size": size, "png": png, "quality": jpeg, "face": face})
    kept = kept_faces(out, listed, given)
    cutter = Cutter(photos, out, detect=detect, given=given, which=face, size=size, quality=jpeg)
    with single_threaded():
        found, leftovers = _cut(cutter, listed, kept, workers or cores(), progress)
        if fallback:
            leftovers = _fall_back(cutter, listed, found, leftovers)
    write_faces(out, found)
    write_leftovers(out, leftovers)
    draw_sheet(out / SHEET, [out / p.target for p in listed if p.path in found], [photos / f.path for f in leftovers])
    return Alignment(
        folder=out,
        photos=len(listed),
        aligned=len(found) - len(kept),
        kept=len(kept),
        typical=sum(face.how == "typical" for face in found.values()),
        leftovers=leftovers,
        unused=len(given.keys() - {photo.path for photo in listed}),
    )


def _cut(
    cutter: Cutter, listed: Sequence[Photo], kept: Mapping[str, Found], workers: int, progress: Progress | None
) -> tuple[dict[str, Found], list[Leftover]]:
    """Cut what is not kept; every face is told of in the table as soon as it is written."""
    found, leftovers = dict(kept), []
    todo = [photo for photo in listed if photo.path not in kept]
    with (cutter.out / FACES).open("a", encoding="utf-8", errors="surrogateescape", newline="") as table:
        for done, outcome in enumerate(in_order(cutter, todo, workers), start=1):
            if isinstance(outcome, Found):
                found[outcome.path] = outcome
                table.write(line(outcome.row()))
                table.flush()
            else:
                leftovers.append(outcome)
            if progress is not None:
                progress(len(kept) + done, len(listed))
    return found, leftovers


def _fall_back(
    cutter: Cutter, listed: Sequence[Photo], found: dict[str, Found], leftovers: Sequence[Leftover]
) -> list[Leftover]:
    """Cut photos without a face where the others' are, into ``found``; return what is still left over."""
    shares = typical_place(found.values())
    if shares is None:
        return list(leftovers)
    photos = {photo.path: photo for photo in listed}
    left = [leftover for leftover in leftovers if leftover.reason != NO_FACE]
    for path in (leftover.path for leftover in leftovers if leftover.reason == NO_FACE):
        outcome = cutter.at(photos[path], shares)
        if isinstance(outcome, Found):
            found[path] = outcome
        else:
            left.append(outcome)
    return left


def _check_numbers(size: int, quality: int, workers: int | None, fallback: str | None) -> None:
    if not 16 <= size <= 1024:
        raise UserError(f"expected faces of 16 to 1024 pixels, found --size {size}")
    if not 1 <= quality <= 100:
        raise UserError(f"expected a JPEG quality from 1 to 100, found {quality}")
    if workers is not None and workers < 1:
        raise UserError(f"expected at least one worker, found {workers}")
    if fallback not in (None, "typical"):
        raise UserError(f"expected the fallback 'typical' or none, found '{fallback}'")


def _detector(detector: Path | str | Detector | None, score: float, *, needed: bool) -> Detector | None:
    if detector is None and not needed:
        return None
    if detector is None or isinstance(detector, (str, Path)):
        return YuNet(find_model(detector), score=score)
    return detector


def _check_given(given: Mapping[str, Points], listed: Sequence[Photo], landmarks: Path | str | None) -> None:
    if landmarks is None or not given.keys().isdisjoint(photo.path for photo in listed):
        return
    found = f"'{next(iter(given))}'" if given else "no line at all"
    raise UserError(
        f"expected landmarks of these photos in '{landmarks}', as '{listed[0].path}', found {found}; "
        "paths are relative to the folder of the photos"
    )
