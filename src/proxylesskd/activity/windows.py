"""Windows of sensor data with their activity and the person who wore the sensor: what all of this room works on."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from proxylesskd.errors import UserError, nearest

LARGEST = 4 << 30  # bytes of a file when unpacked


@dataclass(frozen=True)
class Windows:
    """Equally long windows.

    Attributes:
        values: ``[N, C, T] float32`` in the units of the recording.
        labels: ``[N] int64``, positions in ``activities``.
        subjects: ``[N] int64``, who wore the sensor; every split is by them.
        activities: names.
        rate: samples a second.
        tested: subjects of the data set's official test split; empty where it has none.
    """

    values: Tensor
    labels: Tensor
    subjects: Tensor
    activities: tuple[str, ...]
    rate: float
    tested: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        count, classes = len(self.values), len(self.activities)
        if self.values.ndim != 3 or not count or {len(self.labels), len(self.subjects)} != {count}:
            raise UserError(f"expected windows [N, C, T] with N labels and subjects, found {tuple(self.values.shape)}")
        if not bool(self.values.isfinite().all()):
            raise UserError("expected finite samples, found nan or inf; leave out or interpolate what is missing")
        if not 0 <= int(self.labels.min()) <= int(self.labels.max()) < classes:
            raise UserError(f"expected labels in [0, {classes}), found {int(self.labels.max())}; name every activity")

    def of(self, people: tuple[int, ...]) -> Windows:
        """Return the windows of some subjects."""
        if not people or not set(people) <= set(self.people()):
            raise UserError(f"expected subjects among {', '.join(map(str, self.people()))}, found {people or 'none'}")
        kept = torch.isin(self.subjects, torch.tensor(people))
        return replace(self, values=self.values[kept], labels=self.labels[kept], subjects=self.subjects[kept])

    def people(self) -> tuple[int, ...]:
        """Return the subjects, sorted."""
        return tuple(torch.unique(self.subjects).tolist())

    def resampled(self, samples: int) -> Windows:
        """Return windows of another length, by straight lines between the samples (the paper: 496); 0 for as found."""
        if samples in (0, self.values.shape[2]):
            return self
        values = F.interpolate(self.values, size=samples, mode="linear", align_corners=True)
        return replace(self, values=values, rate=self.rate * samples / self.values.shape[2])

    def split(self, test: str) -> tuple[Windows, Windows]:
        """Return training and test windows of different subjects.

        ``test`` is ``"official"``, ``"3,7,12"`` for these subjects, or ``"1/5"`` for the first of five random folds,
        which are the same every time.
        """
        people = self._tested(test)
        return self.of(tuple(one for one in self.people() if one not in people)), self.of(people)

    def _tested(self, test: str) -> tuple[int, ...]:
        if test == "official":
            return self.tested
        try:
            if "/" not in test:
                return tuple(int(one) for one in test.split(","))
            (first, count), order = map(int, test.split("/")), np.random.default_rng(0).permutation(self.people())
            return tuple(sorted(np.array_split(order, count)[first - 1].tolist()))
        except (ValueError, IndexError) as error:
            raise UserError(f"expected a split such as official, 3,7,12 or 1/5, found '{test}'") from error


def open_windows(location: str) -> Windows:
    """Read windows from ``npz:FILE``, ``pamap2:FOLDER``, ``wisdm:FOLDER`` or ``gaits:SEED``, the synthetic default."""
    from proxylesskd.activity.gaits import make_gaits
    from proxylesskd.activity.recordings import read_pamap2, read_wisdm

    scheme, _, place = location.partition(":")
    readers: dict[str, Callable[[Path], Windows]] = {"npz": read_npz, "pamap2": read_pamap2, "wisdm": read_wisdm}
    if scheme == "gaits" and (place or "0").isdigit():
        return make_gaits(seed=int(place or 0))
    if scheme not in readers or not place:
        hint = nearest(scheme, (*readers, "gaits"))
        raise UserError(f"expected npz:FILE, pamap2:FOLDER, wisdm:FOLDER or gaits:SEED, found '{location}'{hint}")
    return readers[scheme](Path(place))


def read_npz(path: Path) -> Windows:
    """Read ``x [N, T, C]``, ``y [N]``, ``subject [N]`` and, if there, ``split``, ``activity_names`` and ``rate_hz``."""
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
        if size > LARGEST:
            raise UserError(f"expected at most {LARGEST} bytes of arrays in '{path}', found {size}; give fewer windows")
        with np.load(path, allow_pickle=False) as file:
            held = {name: file[name] for name in file.files}
        values = torch.from_numpy(held["x"].astype(np.float32)).permute(0, 2, 1).contiguous()
        labels, subjects = (torch.from_numpy(held[name].astype(np.int64)) for name in ("y", "subject"))
        names = tuple(map(str, held.get("activity_names", np.unique(held["y"]))))
        tested = np.unique(held["subject"][held["split"] == 1]).tolist() if "split" in held else []
        rate = float(held.get("rate_hz", np.float64(1.0)))
    except (OSError, zipfile.BadZipFile, ValueError, KeyError, RuntimeError, IndexError, TypeError) as error:
        raise UserError(f"expected x [N, T, C], y [N] and subject [N] in '{path}', found: {error}") from error
    return Windows(values, labels, subjects, names, rate, tuple(tested))
