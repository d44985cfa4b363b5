"""Sizes of a network: parameters and multiply-adds."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from proxylesskd.models.modes import evaluating

_COUNTED = (nn.Conv1d, nn.Conv2d, nn.Linear, nn.LSTM)


def count_parameters(model: nn.Module) -> int:
    """Return the number of elements of all parameters (buffers, such as running statistics, not counted)."""
    return sum(parameter.numel() for parameter in model.parameters())


def count_multiply_adds(model: nn.Module, image_size: int) -> int:
    """Return the multiply-adds for one ``[3, image_size, image_size]`` image, see :func:`multiply_adds_of`."""
    weight = next(model.parameters())
    return multiply_adds_of(model, torch.zeros(1, 3, image_size, image_size, device=weight.device, dtype=weight.dtype))


def multiply_adds_of(model: nn.Module, example: Tensor) -> int:
    """Return the multiply-adds of convolutions, linear layers and LSTMs for one input.

    Biases, normalisations and activations are not counted, as in the papers.

    Args:
        model: any network.
        example: a batch of one, on the model's device.
    """
    counts: list[int] = []

    def record(module: nn.Module, _inputs: Any, output: Any) -> None:
        if isinstance(module, nn.LSTM):
            weights = sum(value.numel() for name, value in module.named_parameters() if name.startswith("weight"))
            counts.append(output[0].shape[0 if not module.batch_first else 1] * weights)
            return
        assert isinstance(module.weight, Tensor)
        # Each output element costs one multiply-add per weight that reaches it.
        counts.append(output[0].numel() * module.weight[0].numel())

    layers = [module for module in model.modules() if isinstance(module, _COUNTED)]
    hooks = [layer.register_forward_hook(record) for layer in layers]
    try:
        with evaluating(model):
            model(example)
    finally:
        for hook in hooks:
            hook.remove()
    return sum(counts)
