"""Sizes of a network: parameters and multiply-adds."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from proxylesskd.models.modes import evaluating


def count_parameters(model: nn.Module) -> int:
    """Return the number of elements of all parameters (buffers, such as running statistics, not counted)."""
    return sum(parameter.numel() for parameter in model.parameters())


def count_multiply_adds(model: nn.Module, image_size: int) -> int:
    """Return the multiply-adds of convolutions and linear layers for one ``[3, image_size, image_size]`` image.

    Biases, normalisations and activations are not counted, as in the papers.
    """
    counts: list[int] = []

    def record(module: nn.Module, _inputs: Any, output: Tensor) -> None:
        assert isinstance(module.weight, Tensor)
        # Each output element costs one multiply-add per weight that reaches it.
        counts.append(output[0].numel() * module.weight[0].numel())

    layers = [module for module in model.modules() if isinstance(module, (nn.Conv2d, nn.Linear))]
    hooks = [layer.register_forward_hook(record) for layer in layers]
    try:
        _forward_once(model, image_size)
    finally:
        for hook in hooks:
            hook.remove()
    return sum(counts)


def _forward_once(model: nn.Module, image_size: int) -> None:
    weight = next(model.parameters())
    with evaluating(model):
        model(torch.zeros(1, 3, image_size, image_size, device=weight.device, dtype=weight.dtype))
