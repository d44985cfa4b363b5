"""Turn labelled, aligned faces into a set of IJB's form, so that one's own benchmark runs wherever IJB-C does.

Every identity is enrolled once: its first template is in gallery G1 or G2. Its other images become probe templates.
Templates hold 1 to ``most`` images, media of a template 1 to 3 of these. 1:1 compares every enrolled template with the
probes of its identity, and with others drawn among all. Same source and seed, same files to the byte.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from proxylesskd.data.decode import image_size
from proxylesskd.data.formats.folder import image_suffix
from proxylesskd.data.formats.written import Written
from proxylesskd.data.source import Source
from proxylesskd.errors import CorruptImageError, UserError, nearest
from proxylesskd.photos.transform import SIZE, TEMPLATE
from proxylesskd.protocols.embedding_cache import Progress
from proxylesskd.protocols.ijb_meta import GALLERIES, NAME, SUBSETS, Ints

LARGEST_MEDIUM = 3
HEADER = "TEMPLATE_ID,SUBJECT_ID,FILENAME,SIGHTING_ID"
IMPOSTORS = 1_000_000


@dataclass(frozen=True)
class Draw:
    """Which of N images is where; everything is numbered from 0.

    Attributes:
        template: ``[N]``, ascending with the identity.
        media: ``[N]``.
        subject: ``[T]`` identity of each template.
        enrolled: ``[T] bool``, the first template of each identity.
        gallery: ``[S]`` 0 or 1 for G1 or G2, by identity.
    """

    template: Ints
    media: Ints
    subject: Ints
    enrolled: np.ndarray[tuple[int], np.dtype[np.bool_]]
    gallery: Ints


def write_ijb(
    source: Source,
    folder: Path | str,
    *,
    subset: str = "ijbc",
    most: int = 8,
    impostors: int = IMPOSTORS,
    seed: int = 0,
    name: str | None = None,
    progress: Progress | None = None,
) -> Written:
    """Write aligned faces as ``loose_crop`` and ``meta``.

    Image bytes are copied as they are. The lists come last, so that a folder that was left unfinished is no set; to
    write it again is to finish it. Images that cannot be read are left out.

    Args:
        source: labelled faces, aligned to the usual template.
        folder: made; it must not hold a set.
        subset: ``"ijbb"`` or ``"ijbc"``: how the lists are called.
        most: images in a template, at least 1.
        impostors: pairs of two identities in 1:1; fewer where there are not so many.
        seed: of all that is drawn.
        name: what tables call the set, in place of IJB-B or IJB-C.
        progress: called with the number of images that are done and N.

    Raises:
        UserError: the folder holds a set, an option is out of range, or no identity has two images.
    """
    folder = Path(folder)
    _check(folder, subset, most, impostors)
    names, labels, landmarks, skipped = _copy(source, folder / "loose_crop", progress)
    random = np.random.default_rng(seed)
    draw = draw_templates(labels, most, random)
    pairs = _draw_pairs(draw, impostors, random)
    part = folder / "meta.part"
    part.mkdir(exist_ok=True)
    _write_images(part, subset, names, landmarks, draw)
    np.savetxt(part / f"{subset}_template_pair_label.txt", pairs, fmt="%d")
    _write_search(part, subset, names, draw)
    if name is not None:
        (part / NAME).write_text(f"{name}\n", encoding="utf-8")
    part.rename(folder / "meta")
    return Written(len(names), skipped)


def _check(folder: Path, subset: str, most: int, impostors: int) -> None:
    if subset not in SUBSETS:
        raise UserError(f"expected {' or '.join(SUBSETS)}, found '{subset}'{nearest(subset, SUBSETS)}")
    if most < 1 or impostors < 1:
        raise UserError(f"expected at least 1 image a template and 1 impostor pair, found {most} and {impostors}")
    if (folder / "meta").exists():
        raise UserError(f"expected a folder without a set, found '{folder / 'meta'}'; remove it or give another folder")


def _copy(source: Source, crops: Path, progress: Progress | None) -> tuple[list[str], Ints, list[str], dict[int, str]]:
    """Write the images identity by identity; return names, labels ``[N]``, landmarks as text, and what was left out."""
    shutil.rmtree(crops, ignore_errors=True)
    crops.mkdir(parents=True)
    names, labels, landmarks = list[str](), list[int](), list[str]()
    skipped: dict[int, str] = {}
    for done, index in enumerate(np.argsort(source.labels, kind="stable").tolist(), 1):
        try:
            data, label = source.read(index)
            points = _landmarks(*image_size(data))
        except CorruptImageError as error:
            skipped[index] = f"{source.name(index)}: {error}"
        else:
            names.append(f"{len(names) + 1}{image_suffix(data)}")
            labels.append(label)
            landmarks.append(points)
            (crops / names[-1]).write_bytes(data)
        if progress is not None:
            progress(done, len(source))
    return names, np.array(labels, dtype=np.int64), landmarks, skipped


def _landmarks(height: int, width: int) -> str:
    """Return where an aligned face of some size has its landmarks: the template, scaled about the image's corner."""
    points = (TEMPLATE + 0.5) * (width / SIZE, height / SIZE) - 0.5
    return " ".join(f"{value:.4f}" for value in points.ravel())


def draw_templates(labels: Ints, most: int, random: np.random.Generator) -> Draw:
    """Cut each identity's images, in random order, into templates and these into media.

    Args:
        labels: ``[N]``, ascending.
        most: images in a template.
        random: what is drawn from.

    Raises:
        UserError: fewer than two identities, or none with a second template.
    """
    identities, starts = np.unique(labels, return_index=True)
    template, media = np.empty(len(labels), np.int64), np.empty(len(labels), np.int64)
    subject: list[int] = []
    medium = 0
    for identity, mine in enumerate(np.split(np.arange(len(labels)), starts[1:])):
        images = random.permutation(mine)
        for part in _cut(images, min(most, max(1, len(images) // 2)), random):
            template[part] = len(subject)
            subject.append(identity)
            for together in _cut(part, LARGEST_MEDIUM, random):
                media[together] = medium
                medium += 1
    subjects = np.array(subject, dtype=np.int64)
    enrolled = np.diff(subjects, prepend=-1) != 0
    if len(identities) < 2 or enrolled.all():
        raise UserError(
            f"expected at least two identities, and one with two images, found {len(identities)} identities and "
            f"{len(labels)} images"
        )
    gallery = np.zeros(len(identities), np.int64)
    gallery[random.permutation(len(identities))[len(identities) // 2 :]] = 1
    return Draw(template, media, subjects, enrolled, gallery)


def _cut(items: Ints, most: int, random: np.random.Generator) -> list[Ints]:
    """Cut items into runs of 1 to ``most``."""
    sizes = random.integers(1, most + 1, size=len(items))
    return [part for part in np.split(items, np.cumsum(sizes)) if len(part)]


def _draw_pairs(draw: Draw, impostors: int, random: np.random.Generator) -> Ints:
    """Return ``[P, 3]`` enrolled template, probe, label: all genuine pairs and some impostors, by enrolled template."""
    gallery, probes = np.flatnonzero(draw.enrolled), np.flatnonzero(~draw.enrolled)
    cells = len(gallery) * len(probes)
    mates = draw.subject[probes] * len(probes) + np.arange(len(probes))  # the galleries' templates stand by identity
    others = random.choice(cells, size=min(cells, impostors + len(probes)), replace=False)
    others = others[~np.isin(others, mates)][:impostors]
    chosen = np.sort(np.concatenate([mates, others]))
    first, second = gallery[chosen // len(probes)], probes[chosen % len(probes)]
    same = draw.subject[first] == draw.subject[second]
    return np.stack([first + 1, second + 1, same.astype(np.int64)], axis=1)


def _write_images(part: Path, subset: str, names: Sequence[str], landmarks: Sequence[str], draw: Draw) -> None:
    points = [f"{name} {where} 1.000000\n" for name, where in zip(names, landmarks, strict=True)]
    (part / f"{subset}_name_5pts_score.txt").write_text("".join(points), encoding="utf-8")
    media = [f"{n} {t + 1} {m + 1}\n" for n, t, m in zip(names, draw.template, draw.media, strict=True)]
    (part / f"{subset}_face_tid_mid.txt").write_text("".join(media), encoding="utf-8")


def _write_search(part: Path, subset: str, names: Sequence[str], draw: Draw) -> None:
    place = draw.gallery[draw.subject][draw.template]  # [N]
    for number, both in enumerate(GALLERIES.values()):
        chosen = draw.enrolled[draw.template] & (place == number)
        title = both[1] if subset == "ijbb" else both[0]
        _write_list(part / f"{subset}_1N_gallery_{title}.csv", np.flatnonzero(chosen), names, draw)
    probes = np.flatnonzero(~draw.enrolled[draw.template])
    _write_list(part / f"{subset}_1N_probe_mixed.csv", probes, names, draw)


def _write_list(path: Path, chosen: Ints, names: Sequence[str], draw: Draw) -> None:
    chosen = chosen[np.argsort(draw.template[chosen], kind="stable")]
    rows = [HEADER]
    for image in chosen.tolist():
        template = int(draw.template[image])
        rows.append(f"{template + 1},{draw.subject[template] + 1},loose_crop/{names[image]},{image + 1}")
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
