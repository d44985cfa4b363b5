"""Which of MakeHuman's shapes move a grown-up's head, and reading them all."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np

from proxylesskd.synthetic.arrays import Floats, Ints
from proxylesskd.synthetic.mesh_files import read_target

FOLDERS = ("cheek", "chin", "ears", "eyebrows", "eyes", "forehead", "head", "mouth", "nose")
# Shifting or tilting the whole head changes nothing that is seen in an aligned picture.
LEFT_OUT = ("head-trans", "head-angle")


def _macro_files(folder: Path) -> list[Path]:
    """Return the targets of sex, age, build and ancestry that a grown-up's head needs."""
    build = itertools.product(
        ("male", "female"),
        ("child", "young", "old"),
        ("minmuscle", "averagemuscle", "maxmuscle"),
        ("minweight", "averageweight", "maxweight"),
    )
    people = itertools.product(("african", "asian", "caucasian"), ("male", "female"), ("child", "young", "old"))
    names = ["-".join(("universal", *b)) for b in build] + ["-".join(p) for p in people]
    return [folder / f"mpfb2/targets/macrodetails/{name}.target.gz" for name in names]


def _local_files(folder: Path) -> list[tuple[Path, Path | None]]:
    """Return (positive, negative) target files of every change local to the face; some have no opposite."""
    found: list[tuple[Path, Path | None]] = []
    targets = folder / "mpfb2/targets"
    catalogue = json.loads((targets / "target.json").read_text())
    for part in FOLDERS:
        for category in catalogue[part]["categories"]:
            if "opposites" not in category:
                found += [(targets / part / f"{name}.target.gz", None) for name in category["targets"]]
                continue
            for side in ("left", "right", "unsided"):
                names = [category["opposites"][f"{sign}-{side}"] for sign in ("positive", "negative")]
                if all(names):
                    found.append((targets / part / f"{names[0]}.target.gz", targets / part / f"{names[1]}.target.gz"))
    return [pair for pair in found if not pair[0].name.startswith(LEFT_OUT)]


def _stem(path: Path) -> str:
    return path.name.split(".")[0]


def read_shapes(folder: Path, row_of: Ints, rows: int) -> dict[str, Any]:
    """Read every shape of the head for the kept vertices.

    Args:
        folder: the asset folder.
        row_of: [all vertices] row of each kept vertex, -1 for those left out.
        rows: number of kept vertices V.

    Returns:
        The arrays of the same names of `head.Head`: macro [M, V, 3], local [L, 2, V, 3] and actions
        [A, V, 3] with their names.
    """

    def offsets(path: Path | None) -> Floats:
        return np.zeros((rows, 3), np.float32) if path is None else read_target(path, row_of, rows)

    local, macro = _local_files(folder), _macro_files(folder)
    actions = sorted((folder / "faceunits01/targets/faceunits").glob("*.target"))
    return {
        "macro": np.stack([offsets(path) for path in macro]).astype(np.float32),
        "macro_names": np.array([_stem(path) for path in macro]),
        "local": np.stack([[offsets(path) for path in pair] for pair in local]).astype(np.float32),
        "local_names": np.array([_stem(pair[0]) for pair in local]),
        "actions": np.stack([offsets(path) for path in actions]).astype(np.float32),
        "action_names": np.array([_stem(path) for path in actions]),
    }
