"""Landmarks as CSV: those that a user brings, and those that were found.

The columns are ``path,x1,y1,x2,y2,x3,y3,x4,y4,x5,y5``: left eye as seen in the picture, right eye, nose, left mouth
corner, right mouth corner, in pixels of the upright photo; the path is relative to the folder of the photos. What is
written has more columns behind these, so that a file that was written is one that can be read.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from proxylesskd.errors import UserError
from proxylesskd.photos.transform import Points, mirrored

POINT_COLUMNS = [f"{axis}{i}" for i in range(1, 6) for axis in "xy"]
COLUMNS = ["path", *POINT_COLUMNS, "score", "left", "top", "width", "height", "photo_width", "photo_height", "how"]
MAX_BYTES = 1 << 30
ORDER = "left eye as seen in the picture, right eye, nose, left mouth corner, right mouth corner"


@dataclass(frozen=True)
class Found:
    """One face: where it is in its photo.

    Attributes:
        path: of the photo, relative to the folder of the photos, with slashes.
        landmarks: ``[5, 2] float64``, pixels of the upright photo.
        score: the detector's, None where there was none.
        box: left, top, width, height in pixels; None where there was no detector.
        size: height and width of the photo in pixels.
        how: ``"detected"``, ``"given"`` or ``"typical"``.
    """

    path: str
    landmarks: Points
    score: float | None
    box: tuple[float, float, float, float] | None
    size: tuple[int, int]
    how: str

    def row(self) -> list[str]:
        """Return the cells of a line; pixels to a thousandth."""
        points = [f"{v:.3f}" for v in self.landmarks.ravel()]
        score = "" if self.score is None else f"{self.score:.4f}"
        box = [""] * 4 if self.box is None else [f"{v:.2f}" for v in self.box]
        return [self.path, *points, score, *box, str(self.size[1]), str(self.size[0]), self.how]


def line(cells: Sequence[str]) -> str:
    """Return one line of CSV with its end."""
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerow(cells)
    return buffer.getvalue()


def write_table(path: Path, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Write a whole CSV file in place of another, at once."""
    part = path.with_name(f".{path.name}.part")
    with part.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([header, *rows])
    part.replace(path)


def read_landmarks(path: Path | str) -> dict[str, Points]:
    """Read landmarks that a user brings.

    The first line may be a header; then its names say where the columns are, and further columns are passed over.
    Without one, the first eleven columns count.

    Returns:
        path of the photo, with slashes -> ``[5, 2] float64``.

    Raises:
        UserError: no such file, a line of another form, numbers that are not finite, a photo twice, or most faces
            mirrored: left and right are exchanged.
    """
    text = _read(Path(path))
    try:
        rows = [row for row in csv.reader(io.StringIO(text), strict=True) if row]
    except csv.Error as error:
        raise UserError(f"expected comma-separated lines in '{path}', found: {error}") from error
    columns, body = _columns(rows, path)
    found: dict[str, Points] = {}
    for number, row in body:
        name, points = _parse(row, columns, f"line {number} of '{path}'")
        if name in found:
            raise UserError(f"expected every photo once in '{path}', found '{name}' again in line {number}")
        found[name] = points
    _check_not_mirrored(found, path)
    return found


def _read(path: Path) -> str:
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise UserError(f"expected landmarks of at most {MAX_BYTES >> 20} MiB, found {size >> 20} in '{path}'")
        return path.read_text("utf-8-sig", errors="surrogateescape")
    except OSError as error:
        raise UserError(f"expected a CSV of landmarks at '{path}', found: {error.strerror or error}") from error


def _columns(rows: list[list[str]], path: Path | str) -> tuple[list[int], list[tuple[int, list[str]]]]:
    """Return where path, x1, … y5 stand, and the numbered lines that are no header."""
    wanted = ["path", *POINT_COLUMNS]
    head = [cell.strip().lower() for cell in rows[0]] if rows else []
    numbered = list(enumerate(rows, start=1))
    if "path" not in head:
        return list(range(len(wanted))), numbered
    if missing := [name for name in wanted if name not in head]:
        raise UserError(f"expected columns {','.join(wanted)} in '{path}', found no '{missing[0]}'; {ORDER}")
    return [head.index(name) for name in wanted], numbered[1:]


def _parse(row: list[str], columns: list[int], where: str) -> tuple[str, Points]:
    if len(row) <= max(columns):
        raise UserError(f"expected a path and five points (x, y) in {where}, found {len(row)} columns; {ORDER}")
    cells = [row[i] for i in columns]
    try:
        points = np.array([float(cell) for cell in cells[1:]]).reshape(5, 2)
    except ValueError:
        raise UserError(f"expected five points in pixels in {where}, found '{','.join(cells[1:])[:80]}'") from None
    if not np.isfinite(points).all():
        raise UserError(f"expected finite numbers in {where}, found '{','.join(cells[1:])[:80]}'")
    return str(PurePosixPath(cells[0].strip())), points


def _check_not_mirrored(found: dict[str, Points], path: Path | str) -> None:
    if not found:
        return
    wrong = mirrored(np.stack(list(found.values())))
    if 2 * int(wrong.sum()) > len(wrong):
        first = list(found)[int(wrong.argmax())]
        raise UserError(
            f"expected landmarks in the order {ORDER}; found {int(wrong.sum())} of {len(wrong)} faces in '{path}' "
            f"mirrored, first '{first}': exchange left and right"
        )


def read_found(path: Path) -> dict[str, Found]:
    """Read what an earlier run found; a last line that was cut off when the run was killed is passed over.

    Raises:
        UserError: the file was changed into something else.
    """
    if not path.exists():
        return {}
    whole = _read(path)
    rows = csv.DictReader(io.StringIO(whole[: whole.rfind("\n") + 1]))
    try:
        return {row["path"]: _found(row) for row in rows}
    except (KeyError, ValueError, TypeError, csv.Error) as error:
        raise UserError(
            f"expected the landmarks of an earlier run in '{path}', found another table ({error}); choose another "
            "folder to write to"
        ) from error


def _found(row: dict[str, str]) -> Found:
    box = [row[name] for name in ("left", "top", "width", "height")]
    left, top, width, height = (float(v or "nan") for v in box)
    return Found(
        path=row["path"],
        landmarks=np.array([float(row[name]) for name in POINT_COLUMNS]).reshape(5, 2),
        score=float(row["score"]) if row["score"] else None,
        box=(left, top, width, height) if box[0] else None,
        size=(int(row["photo_height"]), int(row["photo_width"])),
        how=row["how"],
    )
