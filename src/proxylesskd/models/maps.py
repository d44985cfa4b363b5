"""The maps inside a network: what its convolutions have made of an image at each resolution, recorded by hooks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from proxylesskd.models.modes import evaluating

Size = tuple[int, int]


@contextmanager
def recording_maps(network: nn.Module) -> Iterator[list[Tensor]]:
    """Record the last map of each resolution while a network runs.

    What a block makes on the way to another resolution is its own affair: of a block that leaves a resolution, the
    last map there is the block's input. So a stage of an IResNet or a MobileFaceNet gives the sum that ends it, and
    other convolutional networks theirs. The image itself and maps of a single row or column are left out.

    Args:
        network: takes ``[B, 3, H, W]``; its modules give maps as ``[B, c, h, w]``.

    Yields:
        A list that holds, after each forward pass, the ``[B, c, h, w]`` maps of that pass, shallow to deep. They are
        the network's own: with their gradient where it ran with gradients, and in the precision it ran in.
    """
    maps: list[Tensor] = []
    recorder = _Recorder(maps)
    hooks: list[RemovableHandle] = [network.register_forward_pre_hook(recorder.begin)]
    hooks += [part.register_forward_hook(recorder.after) for part in network.modules() if part is not network]
    hooks.append(network.register_forward_hook(recorder.end))
    try:
        yield maps
    finally:
        for hook in hooks:
            hook.remove()


def map_shapes(network: nn.Module, size: int) -> tuple[tuple[int, int, int], ...]:
    """Return ``(c, h, w)`` of each map that :func:`recording_maps` gives, by running one black image.

    Args:
        network: takes ``[B, 3, size, size]``; its mode is left as it is.
        size: side of the image in pixels.
    """
    first = next(network.parameters(), torch.empty(0))
    with evaluating(network), recording_maps(network) as maps:
        network(torch.zeros(1, 3, size, size, device=first.device, dtype=first.dtype))
    return tuple((each.shape[1], each.shape[2], each.shape[3]) for each in maps)


def deepest_pairs(student: Sequence[Tensor], teacher: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
    """Match the maps of two networks by their order from the deep end, and bring the teacher's to the student's size.

    The resolutions themselves need not agree: a student of smaller images has smaller ones throughout.

    Args:
        student: ``[B, c, h, w]`` each, shallow to deep.
        teacher: ``[B, c', h', w']`` each, shallow to deep.

    Returns:
        ``([B, c, h, w], [B, c', h, w])``, shallow to deep, as many as the network with fewer maps has.
    """
    count = min(len(student), len(teacher))
    pairs = zip(student[len(student) - count :], teacher[len(teacher) - count :], strict=True)
    return [(own, resized(other, (own.shape[2], own.shape[3]))) for own, other in pairs]


def resized(values: Tensor, size: Size) -> Tensor:
    """Return ``[B, c, *size]`` of ``[B, c, h, w]`` by adaptive average pooling."""
    return values if _size(values) == size else F.adaptive_avg_pool2d(values, size)


class _Recorder:
    """What the hooks of one recording share."""

    def __init__(self, maps: list[Tensor]) -> None:
        self._maps = maps
        self._at: dict[Size, Tensor] = {}
        self._image: torch.Size | None = None

    def begin(self, _network: nn.Module, inputs: tuple[Any, ...]) -> None:
        """Forget the pass before."""
        self._maps.clear()
        self._at.clear()
        self._image = inputs[0].shape[1:] if inputs and isinstance(inputs[0], Tensor) else None

    def after(self, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        """Look at what a part of the network has made."""
        if not _is_map(output):
            return
        if not isinstance(module, nn.Sequential):  # which is no block, only some of them in a row
            self._close(inputs[0] if inputs else None, output)
        self._keep(output)

    def end(self, _network: nn.Module, _inputs: tuple[Any, ...], _output: Any) -> None:
        """Hand out what is left, the largest maps first."""
        self._maps[:] = [self._at[size] for size in sorted(self._at, reverse=True)]
        self._at.clear()

    def _close(self, before: Any, output: Tensor) -> None:
        """Drop what a block has made within itself."""
        for size in [size for size in self._at if size[0] * size[1] < output.shape[2] * output.shape[3]]:
            del self._at[size]  # a side branch, such as the pooled one of squeeze and excitation
        if _is_map(before) and _size(before) != _size(output):
            self._keep(before)

    def _keep(self, values: Tensor) -> None:
        if values.shape[1:] != self._image and min(_size(values)) > 1:
            self._at[_size(values)] = values


def _is_map(values: Any) -> bool:
    return isinstance(values, Tensor) and values.ndim == 4


def _size(values: Tensor) -> Size:
    return values.shape[2], values.shape[3]
