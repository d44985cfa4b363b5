"""The images of a protocol and the models that look at them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from torch import Tensor

from proxylesskd.data.decode import decode
from proxylesskd.data.formats.folder import read_file
from proxylesskd.data.source import Source
from proxylesskd.errors import UserError
from proxylesskd.evaluation.gallery import Model, gallery_in_space_of
from proxylesskd.models.embedder import Embedder
from proxylesskd.progress import bar
from proxylesskd.protocols.embedding_cache import cached_embeddings

Embeddings = npt.NDArray[np.float32]
Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Images:
    """Images that are read when they are needed.

    Attributes:
        names: of the N images.
        read: ``read(i) -> [3, 112, 112] uint8`` RGB.
    """

    names: Sequence[str]
    read: Callable[[int], Pixels]


@dataclass(frozen=True)
class Models:
    """Who embeds the probes, and who the gallery in cross-model mode.

    Attributes:
        probe: the model.
        gallery: the gallery's model in the space of the probe's, or None.
    """

    probe: Embedder
    gallery: Embedder | None

    @classmethod
    def of(cls, model: Model, gallery: Model | None = None, projection: Tensor | str | Path | None = None) -> Models:
        """Open both, see :func:`proxylesskd.evaluation.evaluate`.

        Raises:
            UserError: one cannot be opened, or they do not share a space.
        """
        from proxylesskd.teacher import as_embedder

        if projection is not None and gallery is None:
            raise UserError("expected a gallery model for the projection, found none; give gallery, or no projection")
        probe = as_embedder(model)
        if gallery is None:
            return cls(probe, None)
        return cls(probe, gallery_in_space_of(probe, model, as_embedder(gallery), projection))

    def enrolling(self) -> dict[str, Embedder]:
        """Return who embeds the gallery in each mode."""
        return {"single": self.probe} | ({} if self.gallery is None else {"cross": self.gallery})

    @property
    def gallery_name(self) -> str | None:
        """The name of the gallery's model."""
        return None if self.gallery is None else self.gallery.name


def listed_images(root: Path, names: Sequence[str]) -> Images:
    """Take images by their paths below a folder.

    Raises:
        UserError: one stands there twice, for it would find itself, or some are missing.
    """
    if len(set(names)) < len(names):
        twice = Counter(names).most_common(1)[0][0]
        raise UserError(f"expected every image once, found '{twice}' again; it would find itself")
    missing = [name for name in names if not (root / name).is_file()]
    if missing:
        raise UserError(
            f"expected the listed images below '{root}', found {len(missing)} of {len(names)} missing, first "
            f"'{missing[0]}'; give the folder of the images as root"
        )
    return Images(names, lambda index: decode(read_file(root / names[index])))


def source_images(source: Source) -> Images:
    """Take all images of a source."""
    return Images([source.name(i) for i in range(len(source))], lambda index: decode(source.read(index)[0]))


def embed_set(
    embedder: Embedder,
    images: Images,
    *,
    flip: bool = False,
    cache: str | Path | None = None,
    progress: bool = False,
) -> Embeddings:
    """Embed a set of images, or take what a cache knows of them.

    Args:
        embedder: of dimension D.
        images: N of them; a set must be whole.
        flip: add the embedding of the mirror image and normalise again.
        cache: folder, see :func:`proxylesskd.protocols.embedding_cache.cached_embeddings`.
        progress: draw a progress bar.

    Returns:
        ``[N, D] float32`` of unit length.

    Raises:
        UserError: no image, a corrupt one, or embeddings that are not finite.
    """
    with bar(f"embedding with {embedder.name}", quiet=not progress) as tell:
        views = cached_embeddings(embedder, images.names, images.read, folder=cache, flip=flip, progress=tell)
        return views.fused()
