"""Verification pairs of several groups, and who is drawn when they are resampled together."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from proxylesskd.data.pairs import Pairs, read_pairs
from proxylesskd.errors import UserError
from proxylesskd.evaluation.resample import Resampling
from proxylesskd.evaluation.roc import Bools, check_kinds
from proxylesskd.evaluation.verification import check_folds
from proxylesskd.protocols.csv_list import read_rows

COLUMNS = ("first", "second", "same", "group")
TAKEN = ("gap", "std", "common threshold")


@dataclass(frozen=True)
class Grouped:
    """Verification pairs of several groups.

    Attributes:
        name: what a person would call the set.
        load: by the name of a group, what reads its pairs; a set of its own is not held longer than it is needed.
        shared: whether all groups choose among the same images.
    """

    name: str
    load: Mapping[str, Callable[[], Pairs]]
    shared: bool

    def read(self, group: str) -> Pairs:
        """Return the pairs of a group.

        Raises:
            UserError: they cannot be read, or are all of one kind or in one fold.
        """
        pairs = self.load[group]()
        try:
            check_kinds(pairs.same)
            check_folds(pairs.fold)
        except UserError as error:
            raise UserError(f"group '{group}' of {self.name}: {error}") from error
        return pairs


def read_groups(path: Path | str, root: Path | str | None = None) -> Grouped:
    """Open pairs by group.

    Args:
        path: a folder of one ``.bin`` a group (``African.bin``, ``Asian.bin`` …), or a CSV
            ``first,second,same,group[,fold]``.
        root: folder to which the paths of a CSV are relative; by default its own.

    Raises:
        UserError: it is neither, has fewer than two groups, or a group has a name that results use for other things.
    """
    path = Path(path)
    found = _folder(path) if path.is_dir() else _list(path, root)
    if len(found.load) < 2:
        each = "one .bin file each" if path.is_dir() else "told apart in the column group"
        raise UserError(f"expected at least two groups in '{path}', {each}, found {', '.join(found.load) or 'none'}")
    for group in found.load:
        if not re.fullmatch(r"[^/]+", group) or group in TAKEN:
            raise UserError(f"expected names of groups without '/', and none of {TAKEN}, found '{group}'; rename it")
    return found


def _folder(folder: Path) -> Grouped:
    paths = sorted(folder.glob("*.bin"))
    return Grouped(folder.name, {path.stem: lambda p=path: read_pairs(p) for path in paths}, shared=False)  # type: ignore[misc]


def _list(path: Path, root: Path | str | None) -> Grouped:
    group = np.array([row[-1] for row in read_rows(path, COLUMNS)])
    pairs = read_pairs(path, root)
    names = [str(name) for name in np.unique(group)]
    return Grouped(path.stem, {name: lambda n=name: _part(pairs, group == n) for name in names}, shared=True)  # type: ignore[misc]


def _part(pairs: Pairs, chosen: Bools) -> Pairs:
    return replace(
        pairs,
        first=pairs.first[chosen],
        second=pairs.second[chosen],
        same=pairs.same[chosen],
        fold=pairs.fold[chosen],
    )


def joint_resampling(groups: Mapping[str, Pairs], *, shared: bool) -> dict[str, Resampling]:
    """Return how the pairs of each group follow from one draw for all groups.

    Args:
        groups: their pairs.
        shared: whether they choose among the same images: an identity of several groups is then drawn for all at once.
    """
    each = {group: Resampling.of(pairs) for group, pairs in groups.items()}
    known = all(one.unit == "identities" for one in each.values())
    if shared and known:
        units = {group: _identities(pairs) for group, pairs in groups.items()}
    else:  # people, or pairs, of their own: they stand side by side
        begins = np.cumsum([0, *(one.units for one in each.values())])
        units = {
            g: np.stack([one.first, one.second]) + begin for (g, one), begin in zip(each.items(), begins, strict=False)
        }
    flat, of = np.unique(np.concatenate(list(units.values()), axis=1), return_inverse=True)
    parts = np.split(of.reshape(2, -1), np.cumsum([part.shape[1] for part in units.values()])[:-1], axis=1)
    return {
        group: Resampling("identities" if known else "pairs", part[0], part[1], len(flat))
        for group, part in zip(units, parts, strict=True)
    }


def _identities(pairs: Pairs) -> npt.NDArray[np.int64]:
    """Return ``[2, P]`` identities of both images of every pair, which are known."""
    assert pairs.identities is not None
    return pairs.identities[np.stack([pairs.first, pairs.second])]
