"""Which photos there are, and where each one's face goes."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from proxylesskd.data.formats.folder import IMAGE_SUFFIXES
from proxylesskd.errors import UserError

# The last five cannot be read, but are photos: they are told of instead of passed over.
SUFFIXES = (*IMAGE_SUFFIXES, ".jfif", ".heic", ".heif", ".avif", ".tif", ".tiff")


@dataclass(frozen=True)
class Photo:
    """One photo: its path and that of its face, relative to the two folders, with slashes."""

    path: str
    target: str


def plan(photos: Path, out: Path, suffix: str, taken: frozenset[str] = frozenset()) -> list[Photo]:
    """List the photos below a folder, sorted; the faces go where they lie, under the same name.

    Folders may be nested or not be there at all. What begins with a dot is passed over. Where two photos of a folder
    differ by their suffix alone, it stays in the names of their faces: ``a.png.jpg``.

    Args:
        photos: the folder.
        out: where the faces go; not inside of ``photos``.
        suffix: of the faces: ``".jpg"`` or ``".png"``.
        taken: names that no face may have.

    Raises:
        UserError: no folder, no photos, one folder inside the other, or two faces of one name.
    """
    if not photos.is_dir():
        raise UserError(f"expected a folder of photos, found none at '{photos}'; give an existing folder")
    inner, outer = out.resolve(), photos.resolve()
    if inner == outer or outer in inner.parents:
        raise UserError(f"expected faces to go outside the folder of the photos, found '{out}' in '{photos}'")
    paths = sorted(walk(photos))
    if not paths:
        raise UserError(f"expected photos ({', '.join(IMAGE_SUFFIXES)}) below '{photos}', found none")
    listed = [Photo(path, target) for path, target in zip(paths, _targets(paths, suffix), strict=True)]
    _check_targets(listed, taken)
    return listed


def walk(root: Path) -> Iterator[str]:
    """Yield the paths of the photos below a folder; links to folders are followed, but none in a circle."""
    seen = set()
    for folder, below, names in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        below[:] = [] if real in seen else sorted(name for name in below if not name.startswith("."))
        if real in seen:
            continue
        seen.add(real)
        at = Path(folder).relative_to(root)
        yield from (
            (at / name).as_posix() for name in names if name.lower().endswith(SUFFIXES) and not name.startswith(".")
        )


def _targets(paths: list[str], suffix: str) -> list[str]:
    plain = [str(PurePosixPath(path).with_suffix(suffix)) for path in paths]
    count = Counter(plain)
    return [name if count[name] == 1 else path + suffix for path, name in zip(paths, plain, strict=True)]


def _check_targets(listed: list[Photo], taken: frozenset[str]) -> None:
    sources: dict[str, str] = {}
    for photo in listed:
        if photo.target in taken:
            raise UserError(f"expected no photo named '{photo.path}': align writes '{photo.target}' itself; rename it")
        if photo.target in sources:
            both = f"'{sources[photo.target]}' and '{photo.path}'"
            raise UserError(f"expected photos whose faces have names of their own, found {both}; rename one")
        sources[photo.target] = photo.path
