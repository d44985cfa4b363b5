"""Lists of pairs as text: LFW's ``pairs.txt`` and CSV, parsed into rows."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from proxylesskd.errors import UserError

TRUE = {"1", "true", "yes"}
FALSE = {"0", "false", "no"}
DIGITS = 9


def _is_number(word: str) -> bool:
    return word.isdecimal() and len(word) <= DIGITS


@dataclass(frozen=True)
class Row:
    """One pair: two paths relative to the root of the images, whether they are one identity, the fold if given."""

    first: str
    second: str
    same: bool
    fold: int | None


def _lfw_name(root: Path, name: str, number: str, line: int) -> str:
    if not _is_number(number) or PurePosixPath(name).name != name:
        raise UserError(f"expected a name and an image number in line {line}, found '{name} {number}'")
    stem = f"{name}/{name}_{int(number):04d}"
    jpeg, png = f"{stem}.jpg", f"{stem}.png"
    return png if not (root / jpeg).is_file() and (root / png).is_file() else jpeg


def _lfw_row(root: Path, line: str, number: int, fold: int) -> Row:
    words = line.split("\t") if "\t" in line else line.split()
    if len(words) not in (3, 4):
        raise UserError(f"expected 'Name 1 4' or 'Name 1 Other 2' in line {number}, found '{line[:80]}'")
    same = len(words) == 3
    other = words[0] if same else words[2]
    names = _lfw_name(root, words[0], words[1], number), _lfw_name(root, other, words[-1], number)
    return Row(*names, same, fold)


def lfw_rows(text: str, root: Path) -> list[Row]:
    """Parse LFW's list: ``10 300``, then per fold 300 genuine ``Name 1 4`` and 300 impostor ``Name 1 Other 2``.

    Args:
        text: the list; a single number in the first line means one fold (LFW's view 1).
        root: folder of the images, to tell ``.jpg`` from ``.png``.

    Raises:
        UserError: a line of another form, or another number of lines than the first one promises.
    """
    lines = text.splitlines()
    head = lines[0].split() if lines else []
    if not 1 <= len(head) <= 2 or not all(_is_number(w) and int(w) for w in head):
        raise UserError(f"expected folds and pairs ('10 300') in the first line, found '{' '.join(head)[:80]}'")
    folds, count = (1, int(head[0])) if len(head) == 1 else (int(head[0]), int(head[1]))
    body = [line for line in lines[1:] if line.strip()]
    if len(body) != 2 * folds * count:
        raise UserError(f"expected {folds} x 2 x {count} pairs as the first line says, found {len(body)}")
    return [_lfw_row(root, line, i + 2, i // (2 * count)) for i, line in enumerate(body)]


def _csv_row(row: dict[str | None, str | None], line: int) -> Row:
    first, second, same, fold = (row.get(key) or "" for key in ("first", "second", "same", "fold"))
    known = same.strip().lower()
    if not first or not second or known not in TRUE | FALSE or not _is_number((fold or "0").strip()):
        raise UserError(f"expected first,second,same[,fold] in line {line}, found '{first},{second},{same},{fold}'")
    return Row(first, second, known in TRUE, int(fold) if fold else None)


def csv_rows(text: str) -> list[Row]:
    """Parse a CSV with the header ``first,second,same[,fold]``.

    Raises:
        UserError: a line has no two paths, no truth value (1/0, true/false, yes/no) or no number as fold.
    """
    reader = csv.DictReader(io.StringIO(text))
    try:
        return [_csv_row(row, reader.line_num) for row in reader]
    except csv.Error as error:
        raise UserError(f"expected comma-separated lines, found: {error}") from error
