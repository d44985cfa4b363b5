"""PReLU whose gradient is fast on CPUs too.

PyTorch's backward kernel of PReLU on the CPU works element by element and takes about 40 % of a training step
of MobileFaceNet. The same gradient out of vectorised operations, on slices that stay in the cache, takes less
than half as long. Parameter names and values are those of ``torch.nn.PReLU``.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

_SLICE = 1 << 18  # elements per slice: 1 MiB of float32


class PReLU(nn.Module):
    """``max(x, 0) + weight * min(x, 0)`` with one weight per channel, ``[B, C, H, W] -> [B, C, H, W]``."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((channels,), 0.25))

    def forward(self, x: Tensor) -> Tensor:
        """Apply it; the own gradient is for eager training on the CPU, so that exporters and compilers see a PReLU."""
        weight = self.weight.to(x.dtype)
        eager = not torch.compiler.is_compiling()  # a compiler writes a faster gradient, and would stop at this one
        if eager and self.training and x.device.type == "cpu" and x.requires_grad:
            return _SlicedPReLU.apply(x, weight)  # type: ignore[no-any-return, no-untyped-call]
        return F.prelu(x, weight)


class _SlicedPReLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return F.prelu(x, weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        return prelu_gradients(gradient, *ctx.saved_tensors)


def prelu_gradients(gradient: Tensor, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return the gradients of x ``[B, C, H, W]`` and of weight ``[C]``; at x = 0 the negative side counts."""
    of_x = torch.empty_like(gradient)
    of_weight = torch.zeros_like(weight)
    slope = weight.view(1, -1, 1, 1)
    step = max(1, _SLICE * len(x) // max(1, x.numel()))
    for start in range(0, len(x), step):
        part = slice(start, start + step)
        positive = torch.ops.aten.threshold_backward(gradient[part], x[part], 0)  # gradient where x > 0, else 0
        negative = gradient[part] - positive
        torch.addcmul(positive, negative, slope, out=of_x[part])
        of_weight += negative.mul_(x[part]).sum((0, 2, 3))
    return of_x, of_weight
