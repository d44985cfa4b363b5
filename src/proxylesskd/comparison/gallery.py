"""The teacher's gallery of a verification set: embedded once, kept in a file, read by every cell."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from proxylesskd.comparison.arrays import read_arrays
from proxylesskd.data.pairs import Pairs
from proxylesskd.errors import UserError
from proxylesskd.evaluation.embed import embed_images
from proxylesskd.models.embedder import Embedder


class Enrolled:
    """An embedder of known images: it remembers what the teacher said of them.

    Args:
        images: ``[M, 3, H, W] uint8``.
        embeddings: ``[M, D] float32`` of unit length.
        name: of the teacher.
        fingerprint: of the teacher.
    """

    def __init__(self, images: npt.NDArray[np.uint8], embeddings: Tensor, name: str, fingerprint: str) -> None:
        self.dim, self.name, self.fingerprint = int(embeddings.shape[1]), name, fingerprint
        self._embeddings = embeddings
        self._number = {_digest(image): number for number, image in enumerate(images)}

    def embed(self, images: Tensor) -> Tensor:
        """Return the remembered embeddings ``[B, D]`` of ``[B, 3, H, W] uint8`` images.

        Raises:
            UserError: an image was not enrolled.
        """
        try:
            rows = [self._number[_digest(image)] for image in images.cpu().numpy()]
        except KeyError:
            raise UserError("expected images of the verification set that was enrolled, found another one") from None
        return self._embeddings[rows]


def _digest(image: npt.NDArray[np.uint8]) -> bytes:
    return hashlib.sha256(np.ascontiguousarray(image).data).digest()


def enrol(path: Path, teacher: Embedder, pairs: Pairs, fingerprint: str) -> None:
    """Embed the images of a verification set, unless the file already holds them.

    Args:
        path: of the gallery, ``.npz``.
        teacher: made the gallery.
        pairs: the verification set.
        fingerprint: of the pairs.

    Raises:
        UserError: an embedding is not finite.
    """
    told = {"teacher": teacher.fingerprint, "pairs": fingerprint, "name": teacher.name}
    if path.is_file() and _head(path) == told:
        return
    embeddings = embed_images(teacher, pairs.images, names=pairs.image_names)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.partial.npz")
    np.savez(temporary, embeddings=embeddings, **told)  # type: ignore[arg-type]
    temporary.replace(path)


def _head(path: Path) -> dict[str, str]:
    """Return what the gallery is of; nothing where the file is damaged."""
    try:
        return {name: str(value) for name, value in read_arrays(path, ("teacher", "pairs", "name")).items()}
    except UserError:
        return {}


def enrolled(path: Path, pairs: Pairs) -> Enrolled:
    """Open a gallery that :func:`enrol` made of these pairs.

    Raises:
        UserError: the file is damaged, or of another number of images.
    """
    found = read_arrays(path, ("embeddings", "name", "teacher"))
    embeddings = found["embeddings"]
    if embeddings.shape[:1] != (len(pairs.images),):
        raise UserError(
            f"expected the teacher's gallery of {len(pairs.images)} images at '{path}', found "
            f"{list(embeddings.shape)}; delete it and start anew"
        )
    return Enrolled(pairs.images, torch.from_numpy(embeddings), str(found["name"]), str(found["teacher"]))
