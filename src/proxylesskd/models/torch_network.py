"""A PyTorch module as a function from preprocessed images to embeddings that leaves the module as it is."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor, nn

from proxylesskd.errors import UserError
from proxylesskd.models.modes import evaluating
from proxylesskd.models.preprocess import Preprocessing
from proxylesskd.models.registry import memory_format_of


class TorchNetwork:
    """``[B, 3, S, S] float32 -> [B, dim]``, in evaluation mode and without gradients.

    Attributes:
        module: the module; its mode and its gradients' settings are left alone.
        device: where its parameters are.
        dim: length of an embedding, found by running it once.
    """

    def __init__(self, module: nn.Module, preprocessing: Preprocessing) -> None:
        """Probe a module with one black image.

        Raises:
            UserError: it does not take such images or gives no ``[B, D]`` embeddings.
        """
        self.module = module
        first = next(module.parameters(), None)
        self._layout = torch.contiguous_format if preprocessing.layout == "nhwc" else memory_format_of(module)
        self.device = torch.device("cpu") if first is None else first.device
        self.dim = self._probed_dim(preprocessing)

    def __call__(self, pixels: Tensor) -> Tensor:
        """Run preprocessed images."""
        with evaluating(self.module):
            embeddings: Tensor = self.module(pixels.contiguous(memory_format=self._layout))
        return embeddings

    def digest(self) -> str:
        """Return the sha256 of names, types, shapes and values of the weights as they are now."""
        digest = hashlib.sha256()
        for name, tensor in self.module.state_dict().items():
            digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
        return digest.hexdigest()

    def _probed_dim(self, preprocessing: Preprocessing) -> int:
        size = preprocessing.size
        probe = torch.zeros(1, 3, size, size, dtype=torch.uint8, device=self.device)
        try:
            output = self(preprocessing(probe))
        except RuntimeError as error:
            raise UserError(f"expected a network for images of {size}x{size}, found: {error}") from error
        shape = list(getattr(output, "shape", []))
        if len(shape) != 2 or shape[0] != 1:
            found = shape or type(output).__name__
            raise UserError(f"expected a network that gives embeddings [B, D], found {found}")
        return int(shape[1])
