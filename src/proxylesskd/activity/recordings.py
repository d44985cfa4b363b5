"""Recordings as two public data sets lay them out: PAMAP2's columns of 54 numbers, WISDM's lines of six fields."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from proxylesskd.activity.windows import LARGEST, Windows
from proxylesskd.data.series import cut
from proxylesskd.errors import UserError

# PAMAP2 (Reiss, Stricker 2012): numbers of its activities, and columns of the chest's ±16 g accelerometer.
PAMAP2 = {
    1: "lying", 2: "sitting", 3: "standing", 4: "walking", 5: "running", 6: "cycling", 7: "Nordic walking",
    9: "watching TV", 10: "computer work", 11: "car driving", 12: "ascending stairs", 13: "descending stairs",
    16: "vacuum cleaning", 17: "ironing", 18: "folding laundry", 19: "house cleaning", 20: "playing soccer",
    24: "rope jumping",
}  # fmt: skip
PAMAP2_COLUMNS, PAMAP2_RATE, PAMAP2_CHEST = 54, 100.0, (21, 22, 23)
# WISDM smartphone and smartwatch (Weiss 2019): 18 activities by letter; there is no N.
WISDM, WISDM_RATE = "ABCDEFGHIJKLMOPQRS", 20.0
_FIELDS = [("subject", "i8"), ("code", "U1"), ("time", "f8"), ("x", "f4"), ("y", "f4"), ("z", "f4")]
PAUSE = 0.5  # seconds between two samples that no window spans

Table = npt.NDArray[Any]
Recording = tuple[Table, Table, Table, int]  # values [S, C], activity of each, seconds, subject


def read_pamap2(folder: Path, *, seconds: float = 10.0, columns: Sequence[int] = PAMAP2_CHEST) -> Windows:
    """Read ``subject101.dat`` and its like: time in s, activity (0: none), heart rate, three units of 17 numbers.

    Windows, in m/s², hold one activity and overlap by half; those in which a sample was lost (nan) are left out.
    """

    def read(path: Path) -> Recording:
        table = _numbers(path, dtype=np.float64, usecols=(0, 1, *columns), ndmin=2)
        named = np.array([PAMAP2.get(int(one), "") for one in table[:, 1]])
        return table[:, 2:], named, table[:, 0], int("".join(filter(str.isdigit, path.stem)) or 0)

    return _windows(folder, "subject*.dat", read, PAMAP2_RATE, seconds, PAMAP2_COLUMNS)


def read_wisdm(folder: Path, *, seconds: float = 10.0) -> Windows:
    """Read ``data_1600_accel_phone.txt`` and its like: ``subject,letter,nanoseconds,x,y,z;`` in m/s²; windows alike."""

    def read(path: Path) -> Recording:
        table = _numbers(path, dtype=np.dtype(_FIELDS), delimiter=",", ndmin=1)
        known = np.where(np.isin(table["code"], list(WISDM)), table["code"], "")
        return np.stack([table[k] for k in "xyz"], axis=1), known, table["time"] / 1e9, int(table["subject"][0])

    return _windows(folder, "data_*.txt", read, WISDM_RATE, seconds)


def _numbers(path: Path, **how: Any) -> Table:
    """Read a text file of numbers; ``;`` at the ends of its lines is no part of them."""
    try:
        with path.open(encoding="ascii") as lines:
            return np.asarray(np.loadtxt((line.strip().rstrip(";") for line in lines), **how))
    except (ValueError, OSError) as error:
        raise UserError(f"expected a recording in '{path}', found: {error}") from error


def _windows(
    folder: Path, pattern: str, read: Callable[[Path], Recording], rate: float, seconds: float, columns: int = 0
) -> Windows:
    """Cut all recordings of a folder; activities that nobody does are left out."""
    found, length = list[tuple[Table, Table, int]](), round(seconds * rate)
    for path in sorted(folder.glob(pattern)):
        with path.open("rb") as file:
            width = len(file.readline(1 << 16).split())
        if path.stat().st_size > LARGEST or columns not in (0, width):
            raise UserError(
                f"expected {columns} columns and at most {LARGEST} bytes in '{path}', found {width} columns"
            )
        values, named, time, subject = read(path)
        found.append((*cut(values, named, np.abs(np.diff(time, prepend=time[:1])) > PAUSE, length), subject))
    if not any(len(windows) for windows, _, _ in found):
        raise UserError(f"expected recordings {pattern} of {seconds:g} s and more in '{folder}', found none")
    names, labels = np.unique(np.concatenate([named for _, named, _ in found]), return_inverse=True)
    subjects = np.concatenate([np.full(len(named), subject) for _, named, subject in found])
    cuts = torch.from_numpy(np.concatenate([windows for windows, _, _ in found]).astype(np.float32))
    return Windows(cuts, torch.from_numpy(labels), torch.from_numpy(subjects), tuple(map(str, names)), rate)
