"""IJB-B and IJB-C as they are passed around: loose crops with landmarks, and the protocols' lists beside them.

The layout is InsightFace's: ``loose_crop/1.jpg`` …, and in ``meta``, here for ``ijbc`` (``ijbb`` alike):

- ``ijbc_name_5pts_score.txt``: an image's name, five landmarks x y, the detector's score; one line an image,
- ``ijbc_face_tid_mid.txt``: name, template, medium; the same images in the same order,
- ``ijbc_template_pair_label.txt``: two templates, 1 where they show one subject else 0: the 1:1 protocol,
- ``ijbc_1N_gallery_G1.csv``, ``…_G2.csv`` (``S1``, ``S2`` in IJB-B), ``ijbc_1N_probe_mixed.csv``: NIST's lists with a
  header, of which ``TEMPLATE_ID`` and ``SUBJECT_ID`` are read: the 1:N protocol.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import numpy.typing as npt

from proxylesskd.errors import UserError, nearest
from proxylesskd.evaluation.roc import Bools, Floats
from proxylesskd.protocols.integer_table import read_integers

Ints = npt.NDArray[np.int64]
Positions = npt.NDArray[np.int32]
SUBSETS = {"ijbb": "IJB-B", "ijbc": "IJB-C"}
NAME, MAX_NAME = "name.txt", 80
GALLERIES = {"G1": ("G1", "S1"), "G2": ("G2", "S2")}
MAX_LIST_BYTES = 1 << 30
MOST_PIXELS = 1e6
POINTS_FORM, MEDIA_FORM, PAIR_FORM = "1.jpg x1 y1 … x5 y5 score", "1.jpg template medium", "template template 1-or-0"


@dataclass(frozen=True)
class TemplatePairs:
    """The comparisons of 1:1.

    Attributes:
        first: ``[P] int32`` position of the enrolled template.
        second: ``[P] int32`` position of the probe's template.
        same: ``[P] bool`` whether both show one subject.
    """

    first: Positions
    second: Positions
    same: Bools

    def __len__(self) -> int:
        """Return the number of pairs P."""
        return len(self.same)


@dataclass(frozen=True)
class SubjectList:
    """A gallery or the probes of 1:N, each template once.

    Attributes:
        templates: ``[K]`` positions of templates.
        subjects: ``[K]`` who they show.
    """

    templates: Ints
    subjects: Ints


@dataclass(frozen=True)
class IjbSet:
    """A set of templates and what is to be compared.

    Attributes:
        name: ``"IJB-C"``.
        crops: folder of the images.
        names: of the N images.
        landmarks: ``[N, 5, 2]`` pixels of the crop.
        detector: ``[N]`` score of the detector, at least 0.
        ids: ``[T]`` number of each template, ascending; elsewhere templates stand by their position in it.
        template: ``[N]`` position of each image's template.
        media: ``[N]`` medium of each image.
        pairs: of 1:1, None where the list is not there.
        galleries: of 1:N by ``"G1"`` and ``"G2"``, empty where the lists are not there.
        probes: of 1:N, None likewise.
    """

    name: str
    crops: Path
    names: Sequence[str]
    landmarks: Floats
    detector: Floats
    ids: Ints
    template: Ints
    media: Ints
    pairs: TemplatePairs | None
    galleries: Mapping[str, SubjectList]
    probes: SubjectList | None

    def digest(self) -> str:
        """Return a hash of where every face lies in its image."""
        return hashlib.sha256(np.ascontiguousarray(self.landmarks).tobytes()).hexdigest()


def read_ijb(root: Path | str, *, subset: str = "ijbc") -> IjbSet:
    """Read the lists of a set; its images stay where they are.

    Args:
        root: folder that holds ``meta`` and ``loose_crop``.
        subset: ``"ijbb"`` or ``"ijbc"``, with which the lists' names begin.

    Raises:
        UserError: a list is missing, has a line of another form, names unknown templates or contradicts another.
    """
    if subset not in SUBSETS:
        raise UserError(f"expected {' or '.join(SUBSETS)}, found '{subset}'{nearest(subset, SUBSETS)}")
    meta = Path(root) / "meta"
    names, landmarks, detector = _read_points(meta / f"{subset}_name_5pts_score.txt")
    numbers, media = _read_media(meta / f"{subset}_face_tid_mid.txt", names)
    ids, template = np.unique(numbers, return_inverse=True)
    pairs = meta / f"{subset}_template_pair_label.txt"
    galleries, probes = _read_search(meta, subset, ids)
    if not pairs.is_file() and probes is None:
        raise UserError(
            f"expected '{pairs.name}' or {subset}_1N_*.csv in '{meta}', found neither; fetch the meta files"
        )
    return IjbSet(
        name=_name(meta, subset),
        crops=Path(root) / "loose_crop",
        names=names,
        landmarks=landmarks,
        detector=detector,
        ids=ids,
        template=template.astype(np.int64),
        media=media,
        pairs=_read_pairs(pairs, ids) if pairs.is_file() else None,
        galleries=galleries,
        probes=probes,
    )


def _name(meta: Path, subset: str) -> str:
    """Return what a set calls itself; NIST's own have no such file."""
    if not (path := meta / NAME).is_file():
        return SUBSETS[subset]
    name = _text(path).strip()
    if not 0 < len(name) <= MAX_NAME or not name.isprintable():
        raise UserError(f"expected a name of at most {MAX_NAME} letters in '{path}', found {name[:MAX_NAME]!r}")
    return name


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > MAX_LIST_BYTES:
            raise UserError(f"expected a list of at most {MAX_LIST_BYTES >> 20} MiB, found more in '{path}'")
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        found = "none" if isinstance(error, FileNotFoundError) else str(error)
        raise UserError(f"expected the list '{path}', found {found}; give the folder above 'meta'") from error
    except UnicodeDecodeError as error:
        raise UserError(f"expected text in '{path}', found other bytes; fetch the list again") from error


def _rows(path: Path, columns: int, form: str) -> list[list[str]]:
    """Return the words of every line, blank ones at the end left out."""
    rows = [line.split() for line in _text(path).rstrip().split("\n")]
    for number, row in enumerate(rows, 1):
        if len(row) != columns:
            _refuse(path, number, form, " ".join(row))
    return rows


def _numbers(path: Path, rows: Sequence[Sequence[str]], kind: type[np.generic], form: str) -> npt.NDArray[np.generic]:
    """Convert the words of all lines, or say which line has something else."""
    try:
        return np.array(rows, dtype=kind)
    except (ValueError, OverflowError):
        for number, row in enumerate(rows, 1):
            try:
                np.array(row, dtype=kind)
            except (ValueError, OverflowError):
                _refuse(path, number, form, " ".join(row))
        raise


def _refuse(path: Path, number: int, form: str, found: str) -> None:
    raise UserError(f"expected '{form}' in line {number} of '{path}', found '{found[:80]}'; fetch the list again")


def _read_points(path: Path) -> tuple[list[str], Floats, Floats]:
    rows = _rows(path, 12, POINTS_FORM)
    names = [row[0] for row in rows]
    values = _numbers(path, [row[1:] for row in rows], np.float64, POINTS_FORM).astype(np.float64)
    sound = (np.abs(values) < MOST_PIXELS).all(axis=1) & (values[:, -1] >= 0)  # false for NaN
    if not sound.all():
        number = int(np.argmin(sound))
        _refuse(path, number + 1, f"{POINTS_FORM}, finite and a score >= 0", " ".join(rows[number]))
    for number, name in enumerate(names, 1):
        if name.startswith("/") or "\\" in name or ".." in PurePosixPath(name).parts:
            raise UserError(f"expected an image below loose_crop in line {number} of '{path}', found '{name[:80]}'")
    return names, np.ascontiguousarray(values[:, :10]).reshape(-1, 5, 2), np.ascontiguousarray(values[:, 10])


def _read_media(path: Path, names: Sequence[str]) -> tuple[Ints, Ints]:
    rows = _rows(path, 3, MEDIA_FORM)
    if len(rows) != len(names):
        raise UserError(
            f"expected {len(names)} lines in '{path}', one for each image with landmarks, found {len(rows)}"
        )
    for number, (row, name) in enumerate(zip(rows, names, strict=True), 1):
        if row[0] != name:
            raise UserError(
                f"expected '{name[:80]}' in line {number} of '{path}', as in the list of landmarks, "
                f"found '{row[0][:80]}'"
            )
    values = _numbers(path, [row[1:] for row in rows], np.int64, MEDIA_FORM).astype(np.int64)
    return values[:, 0], values[:, 1]


def _read_pairs(path: Path, ids: Ints) -> TemplatePairs:
    table = read_integers(path, 3, PAIR_FORM)
    if not len(table):
        raise UserError(f"expected lines '{PAIR_FORM}' in '{path}', found none; fetch the list again")
    first, second = positions_of(table[:, 0], ids), positions_of(table[:, 1], ids)
    bad = (first < 0) | (second < 0) | (table[:, 2] > 1)
    if bad.any():
        at = int(np.argmax(bad))
        raise UserError(
            f"expected two templates that have images, and 1 or 0, in pair {at + 1} of '{path}', found "
            f"'{' '.join(map(str, table[at].tolist()))}'; are all lists of one set?"
        )
    return TemplatePairs(first, second, table[:, 2] == 1)


def positions_of(numbers: npt.NDArray[np.integer], ids: Ints) -> Positions:
    """Return ``[K]`` positions of template numbers in ``ids [T]``, ascending; -1 where they are not in it."""
    if ids[0] >= 0 and ids[-1] < 1 << 24:  # a table is several times faster than searching, and here it is small
        table = np.full(int(ids[-1]) + 2, -1, np.int32)
        table[ids] = np.arange(len(ids), dtype=np.int32)
        positions: Positions = table[np.clip(numbers, -1, ids[-1] + 1)]
        return positions
    at = np.minimum(np.searchsorted(ids, numbers), len(ids) - 1)
    return np.where(ids[at] == numbers, at, -1).astype(np.int32)


def _read_search(meta: Path, subset: str, ids: Ints) -> tuple[dict[str, SubjectList], SubjectList | None]:
    """Read the lists of 1:N: all of them, or none."""
    wanted = {name: [meta / f"{subset}_1N_gallery_{also}.csv" for also in both] for name, both in GALLERIES.items()}
    wanted["probe"] = [meta / f"{subset}_1N_probe_mixed.csv"]
    found = {name: next((path for path in paths if path.is_file()), None) for name, paths in wanted.items()}
    missing = [" or ".join(path.name for path in wanted[name]) for name, path in found.items() if path is None]
    if len(missing) == len(wanted):
        return {}, None
    if missing:
        raise UserError(f"expected both galleries and the probes of 1:N in '{meta}', found no {missing[0]}")
    lists = {name: _read_subjects(path, ids) for name, path in found.items() if path is not None}
    return {name: lists[name] for name in GALLERIES}, lists["probe"]


def _read_subjects(path: Path, ids: Ints) -> SubjectList:
    subject_of: dict[int, int] = {}
    reader = csv.reader(_text(path).splitlines())
    try:
        columns = _columns(path, next(reader, []))
        for row in reader:
            if row:
                _take(path, reader.line_num, row, columns, subject_of)
    except csv.Error as error:
        raise UserError(f"expected comma-separated lines in '{path}', found {error}") from error
    numbers = np.array(sorted(subject_of), dtype=np.int64)
    templates = positions_of(numbers, ids)
    if not len(numbers) or (templates < 0).any():
        found = f"template {numbers[np.argmax(templates < 0)]}" if len(numbers) else "none at all"
        raise UserError(f"expected templates that have images in '{path}', found {found}; are all lists of one set?")
    return SubjectList(templates.astype(np.int64), np.array([subject_of[int(n)] for n in numbers], dtype=np.int64))


def _columns(path: Path, header: Sequence[str]) -> tuple[int, int]:
    names = [name.strip().upper() for name in header]
    if "TEMPLATE_ID" not in names or "SUBJECT_ID" not in names:
        raise UserError(
            f"expected TEMPLATE_ID and SUBJECT_ID in the header of '{path}', found '{','.join(header)[:80]}'"
        )
    return names.index("TEMPLATE_ID"), names.index("SUBJECT_ID")


def _take(path: Path, line: int, row: Sequence[str], columns: tuple[int, int], subject_of: dict[int, int]) -> None:
    try:
        template, subject = (int(row[column]) for column in columns)
        if max(abs(template), abs(subject)) >= 1 << 62:
            raise ValueError
    except (ValueError, IndexError):
        raise UserError(
            f"expected whole numbers as template and subject in line {line} of '{path}', found '{','.join(row)[:80]}'"
        ) from None
    if subject_of.setdefault(template, subject) != subject:
        raise UserError(
            f"expected one subject a template, found {subject_of[template]} and {subject} for {template} "
            f"in line {line} of '{path}'"
        )
