"""IJB's files as a stranger would write them, line by line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from tests.faces import face

POINTS = [(38.2946, 51.6963), (73.5318, 51.5014), (56.0252, 71.7366), (41.5493, 92.3655), (70.7299, 92.2041)]
HEADER = "TEMPLATE_ID,SUBJECT_ID,FILENAME,SIGHTING_ID,FACE_X,FACE_Y,FACE_WIDTH,FACE_HEIGHT\n"

# image -> (subject, template, medium); subjects 1 to 3 are in the first gallery, 4 and 5 in the second
IMAGES = [
    (1, 10, 1), (1, 10, 1), (1, 10, 2), (2, 11, 3), (3, 12, 4), (4, 20, 5), (4, 20, 6), (5, 21, 7),
    (1, 30, 8), (1, 30, 9), (2, 31, 10), (2, 31, 10), (3, 32, 11), (4, 33, 12), (5, 34, 13), (5, 34, 13), (1, 35, 14),
]  # fmt: skip
GALLERIES = {"G1": (10, 11, 12), "G2": (20, 21)}
PROBES = (30, 31, 32, 33, 34, 35)
SUBJECT = {template: subject for subject, template, _ in IMAGES}
PAIRS = [(g, p, int(SUBJECT[g] == SUBJECT[p])) for gallery in GALLERIES.values() for g in gallery for p in PROBES]


def pixels(image: int) -> npt.NDArray[np.uint8]:
    """A face [140, 140, 3] with a margin of 14 pixels."""
    inner = face(IMAGES[image][0], image % 5)
    return np.pad(inner, ((14, 14), (14, 14), (0, 0)))


def score(image: int) -> float:
    """What the detector says of an image."""
    return round(0.3 + 0.04 * image, 3)


def write_set(root: Path, subset: str = "ijbc", titles: tuple[str, str] = ("G1", "G2")) -> Path:
    """Write 17 crops and all lists; images as PNG, so that pixels stay."""
    meta, crops = root / "meta", root / "loose_crop"
    meta.mkdir(parents=True)
    crops.mkdir()
    points, media = "", ""
    for image, (_, template, medium) in enumerate(IMAGES):
        Image.fromarray(pixels(image)).save(crops / f"{image + 1}.png")
        where = " ".join(f"{x + 14:.4f} {y + 14:.4f}" for x, y in POINTS)
        points += f"{image + 1}.png {where} {score(image)}\n"
        media += f"{image + 1}.png {template} {medium}\n"
    (meta / f"{subset}_name_5pts_score.txt").write_text(points)
    (meta / f"{subset}_face_tid_mid.txt").write_text(media)
    (meta / f"{subset}_template_pair_label.txt").write_text("".join(f"{a} {b} {c}\n" for a, b, c in PAIRS))
    for title, templates in zip(titles, GALLERIES.values(), strict=True):
        write_list(meta / f"{subset}_1N_gallery_{title}.csv", templates)
    write_list(meta / f"{subset}_1N_probe_mixed.csv", PROBES)
    return root


def write_list(path: Path, templates: tuple[int, ...]) -> None:
    """Write NIST's list of some templates, one line an image."""
    rows = [
        f"{template},{subject},img/{i}.png,{i},1,2,3,4\n"
        for i, (subject, template, _) in enumerate(IMAGES)
        if template in templates
    ]
    path.write_text(HEADER + "".join(rows))
