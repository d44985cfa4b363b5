"""What a teacher says of faces beyond their unit embeddings: how long they were, and the maps inside it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from proxylesskd.errors import UserError
from proxylesskd.models.maps import recording_maps
from proxylesskd.models.torch_network import TorchNetwork
from proxylesskd.teacher import Teacher

Maps = tuple[Tensor, ...]


def embed_with_maps(teacher: Teacher, images: Tensor) -> tuple[Tensor, Tensor, Maps]:
    """Embed faces and keep the maps of the same forward pass.

    Args:
        teacher: a PyTorch network.
        images: ``[B, 3, H, W] uint8`` RGB, B > 0.

    Returns:
        ``[B, D] float32`` unit embeddings, ``[B] float32`` their lengths before, and the ``[B, c, h, w] float32``
        maps of :func:`~proxylesskd.models.maps.recording_maps`, shallow to deep; all without gradients, on the device
        of the images.

    Raises:
        UserError: the teacher is no PyTorch network, the images are of another shape or type, or an embedding is zero
            or not finite.
    """
    network = _network_of(teacher)
    if images.ndim != 4 or images.shape[1] != 3 or images.dtype != torch.uint8 or not len(images):
        raise UserError(f"expected faces [B, 3, H, W] uint8, B > 0, found {list(images.shape)} {images.dtype}")
    chunk = 16 if network.device.type == "cpu" else 256  # as the teacher itself runs them
    parts = [_run(teacher, network, images[i : i + chunk]) for i in range(0, len(images), chunk)]
    raw = torch.cat([each for each, _ in parts]).to(images.device)  # [B, D]
    norms = raw.norm(dim=1)
    if not bool((norms.isfinite() & (norms > 0)).all()):
        raise UserError(
            f"expected finite embeddings from '{teacher.name}', found zero or non-finite ones; "
            "check its weights and its preprocessing"
        )
    maps = zip(*(each for _, each in parts), strict=True)
    return F.normalize(raw), norms, tuple(torch.cat(each).to(images.device) for each in maps)


def teacher_map_shapes(teacher: Teacher) -> tuple[tuple[int, int, int], ...]:
    """Return ``(c, h, w)`` of each map of a teacher, shallow to deep, by running one black image.

    Raises:
        UserError: the teacher is no PyTorch network.
    """
    size = teacher.preprocessing.size
    network = _network_of(teacher)
    _, maps = _run(teacher, network, torch.zeros(1, 3, size, size, dtype=torch.uint8))
    return tuple((each.shape[1], each.shape[2], each.shape[3]) for each in maps)


def _network_of(teacher: Teacher) -> TorchNetwork:
    if not isinstance(teacher.network, TorchNetwork):
        raise UserError(
            f"expected a PyTorch teacher, whose maps can be seen, found '{teacher.name}', which shows its embeddings "
            "alone; give its PyTorch weights, or a method that needs no maps"
        )
    return teacher.network


def _run(teacher: Teacher, network: TorchNetwork, images: Tensor) -> tuple[Tensor, list[Tensor]]:
    with recording_maps(network.module) as maps:
        raw = network(teacher.preprocessing(images.to(network.device)))  # [B, D]
    return raw.float(), [each.float() for each in maps]
