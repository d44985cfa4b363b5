"""One pass over images of a source: sizes, broken ones, the mean face, colours, and faces that tell alignment."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from proxylesskd.data.decode import decode, image_size
from proxylesskd.data.source import Source
from proxylesskd.errors import CorruptImageError
from proxylesskd.inspection.colours import redness

SIZE = 112
GREY_FACES = 500  # of which alignment is judged: 25 MB
LUMA = np.array([0.299, 0.587, 0.114])


@dataclass
class Look:
    """What was seen of the images that were read.

    Attributes:
        read: how many.
        sizes: (height, width) in pixels -> how many.
        corrupt: index -> name and what is wrong.
        digests: index -> hash of the encoded image, of those that can be decoded.
        total: ``[3, 112, 112] int64``, sum of the pixels.
        redder: of each whole face, see :func:`proxylesskd.inspection.colours.redness`.
        grey: likewise.
        faces: up to 500 of them in grey, ``[112, 112] uint8`` each.
    """

    read: int = 0
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    corrupt: dict[int, str] = field(default_factory=dict)
    digests: dict[int, bytes] = field(default_factory=dict)
    total: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros((3, SIZE, SIZE), dtype=np.int64))
    redder: list[float] = field(default_factory=list)
    grey: list[bool] = field(default_factory=list)
    faces: list[npt.NDArray[np.uint8]] = field(default_factory=list)

    @property
    def mean_face(self) -> npt.NDArray[np.uint8]:
        """``[3, 112, 112] uint8``, the mean of the whole images."""
        return np.round(self.total / max(1, self.read - len(self.corrupt))).astype(np.uint8)


def look(source: Source, chosen: npt.NDArray[np.int64], progress: Callable[[int, int], None] | None = None) -> Look:
    """Read and decode the chosen images; a corrupt one is counted.

    Args:
        source: labelled faces.
        chosen: ``[n] int64`` indices.
        progress: called with (images read, n).
    """
    found, every = Look(), -(-len(chosen) // GREY_FACES)
    for done, index in enumerate(chosen.tolist()):
        try:
            data, _ = source.read(index)
            _add(found, index, data, decode(data, SIZE), keep=done % every == 0)
        except CorruptImageError as error:
            found.corrupt[index] = f"{source.name(index)}: {error}"
        found.read += 1
        if progress is not None:
            progress(done + 1, len(chosen))
    return found


def _add(found: Look, index: int, data: bytes, face: npt.NDArray[np.uint8], *, keep: bool) -> None:
    size = image_size(data)
    (redder,), (grey,) = redness(face[None])
    found.sizes[size] += 1
    found.digests[index] = hashlib.sha256(data).digest()[:16]
    found.total += face
    found.redder.append(float(redder))
    found.grey.append(bool(grey))
    if keep:
        found.faces.append(np.einsum("c,chw->hw", LUMA, face).round().astype(np.uint8))
