"""A frozen network together with its preprocessing: faces in, embeddings and their lengths out."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from proxylesskd.errors import UserError
from proxylesskd.models.preprocess import Preprocessing

Device = str | torch.device


class Teacher:
    """An :class:`~proxylesskd.models.embedder.Embedder` that never trains and has no parameters of its own.

    Attributes:
        network: preprocessed images to un-normalised embeddings.
        preprocessing: what stands between pixels and the network.
        dim: length D of an embedding.
        name: for tables.
        fingerprint: sha256 over weights and preprocessing.
        batch: the batch size the network insists on, or None for any.
        chunk: how many images are run at once, at most.
    """

    def __init__(
        self,
        network: Callable[[Tensor], Tensor],
        preprocessing: Preprocessing,
        dim: int,
        name: str,
        fingerprint: str,
        *,
        batch: int | None = None,
        chunk: int | None = None,
        device: Device = "cpu",
        notes: Mapping[str, str] | None = None,
    ) -> None:
        """Put a network and its preprocessing together.

        Args:
            network: preprocessed images to ``[B, dim]``.
            preprocessing: for ``[B, 3, H, W] uint8`` RGB.
            dim: length of an embedding.
            name: for tables.
            fingerprint: hash of weights and preprocessing.
            batch: the only batch size that the network takes, or None for any.
            chunk: the largest batch that is run at once where any is taken; 16 on a CPU, where larger ones leave the
                caches and are no faster, and 256 elsewhere, unless given.
            device: where the network runs.
            notes: where each property of the preprocessing comes from, for :meth:`describe`.
        """
        self.network = network
        self.preprocessing = preprocessing
        self.dim = dim
        self.name = name
        self.fingerprint = fingerprint
        self.batch = batch
        self.chunk = batch or chunk or (16 if torch.device(device).type == "cpu" else 256)
        self._device = torch.device(device)
        self._notes = dict(notes or {})

    def embed(self, images: Tensor) -> Tensor:
        """Turn ``[B, 3, H, W] uint8`` RGB faces into ``[B, dim] float32`` unit embeddings on their device.

        Any number of images goes in; they are run in chunks, without gradients.

        Raises:
            UserError: the images are of another shape or type, or an embedding is zero or not finite.
        """
        return self.measure(images)[0]

    def measure(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Embed as :meth:`embed` does, and keep the lengths that the network gave its embeddings.

        Returns:
            ``[B, dim] float32`` unit embeddings, the same as those of :meth:`embed`, and ``[B] float32`` lengths > 0.

        Raises:
            UserError: as :meth:`embed`.
        """
        if images.ndim != 4 or images.shape[1] != 3 or images.dtype != torch.uint8:
            raise UserError(f"expected faces [B, 3, H, W] uint8, found {list(images.shape)} {images.dtype}")
        if not len(images):
            return torch.empty(0, self.dim, device=images.device), torch.empty(0, device=images.device)
        with torch.no_grad():
            embeddings = torch.cat([self._run(part) for part in torch.split(images, self.chunk)])
        norms = embeddings.norm(dim=1)
        if not bool((norms.isfinite() & (norms > 0)).all()):
            raise UserError(
                f"expected finite embeddings from '{self.name}', found zero or non-finite ones; "
                "check its weights and its preprocessing"
            )
        return F.normalize(embeddings).to(images.device), norms.to(images.device)

    def describe(self) -> str:
        """Return one paragraph: dimension, input, preprocessing, and what was given, detected or assumed."""
        fields = self.preprocessing.to_dict()
        # A property without a note was passed by whoever made this object.
        properties = [f"{key} {_plain(value)} ({self._notes.get(key, 'given')})" for key, value in fields.items()]
        batch = "any" if self.batch is None else f"{self.batch} (fixed)"
        return f"{self.name}: {self.dim}-d; {', '.join(properties)}; batch {batch}"

    def _run(self, images: Tensor) -> Tensor:
        pixels = self.preprocessing(images.to(self._device))
        missing = (self.batch or len(images)) - len(images)
        if missing:
            pixels = torch.cat([pixels, pixels[-1:].expand(missing, *pixels.shape[1:])])
        return self.network(pixels)[: len(images)].float()


def _plain(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
