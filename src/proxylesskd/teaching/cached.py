"""What the teacher said about both mirror views of every image, looked up."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from proxylesskd.classifier.embedded import EmbeddedSource
from proxylesskd.errors import UserError
from proxylesskd.teaching.live import Project, projected
from proxylesskd.teaching.taught import Taught


class Cached:
    """A :data:`~proxylesskd.teaching.taught.Teach` that looks up what the teacher said, where only flips augment.

    The same as asking the live teacher, but for the rounding to float16.

    Args:
        embedded: two views of every image of the source that training draws from.
        flipped: ``(indices [B] int64, step) -> [B] bool``: which images the augmentation mirrors.
        project: takes ``[B, T]`` embeddings to the space of a smaller student.
        name: what a person calls an image of the source.

    Raises:
        UserError: there is one view of each image only.
    """

    def __init__(
        self,
        embedded: EmbeddedSource,
        flipped: Callable[[Tensor, int], Tensor],
        *,
        project: Project | None = None,
        name: Callable[[int], str] = "image {}".format,
    ) -> None:
        if embedded.views.shape[1] != 2:
            raise UserError(f"expected embeddings of two views of each image, found {embedded.views.shape[1]}")
        self._embedded, self._flipped, self._project, self._name = embedded, flipped, project, name

    def __call__(self, images: Tensor, indices: Tensor, step: int) -> Taught:
        """Return what the teacher said about images of the source, by their ``[B] int64`` indices.

        Raises:
            UserError: an image was corrupt when the teacher was to see it.
        """
        indices = indices.cpu()
        chosen, view = indices.numpy(), self._flipped(indices, step).numpy().astype(np.int64)
        self._refuse_unseen(chosen)
        embeddings = _fetch(self._embedded.views, chosen, view, images.device)  # [B, T]
        norms = self._embedded.norms
        return Taught(
            projected(F.normalize(embeddings, dim=1), self._project),  # float16 has left them a little off unit length
            None if norms is None else _fetch(norms, chosen, view, images.device),
        )

    def _refuse_unseen(self, chosen: npt.NDArray[np.int64]) -> None:
        unseen = chosen[self._embedded.labels[chosen] < 0]
        if len(unseen):
            raise UserError(
                f"expected what {self._embedded.teacher} says about {self._name(int(unseen[0]))}, found that the image "
                "was corrupt when it was to be embedded; if the faces have changed since, give another cache folder"
            )


def _fetch(
    array: npt.NDArray[np.floating], chosen: npt.NDArray[np.int64], view: npt.NDArray[np.int64], device: torch.device
) -> Tensor:
    """Return rows of a mapped array on a device, in float32; they travel as they are stored."""
    return torch.from_numpy(np.asarray(array[chosen, view])).to(device).float()
