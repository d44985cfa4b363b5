"""Batch normalisation whose statistics are those of the whole batch, though every process sees a part of it.

Ioffe and Szegedy (arXiv 1502.03167), with the sums of algorithm 1 and of its gradient taken over all processes, so that
a network trains alike whatever their number. torch's SyncBatchNorm needs a GPU and a trainable scale; this one runs
wherever `torch.distributed` can add.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.modules.batchnorm import _BatchNorm

_native = torch.ops.aten


class SyncedNorm(nn.Module):
    """Stands in for a ``BatchNorm1d``, ``2d`` or ``3d``: its parameters and buffers, under the same names.

    In evaluation mode it is what it stands for and talks to nobody. In training mode every process must call it
    equally often, each with equally many samples.

    Args:
        norm: the original; its parameters and buffers are shared, not copied.
    """

    weight: Tensor | None
    bias: Tensor | None
    running_mean: Tensor | None
    running_var: Tensor | None
    num_batches_tracked: Tensor | None

    def __init__(self, norm: _BatchNorm) -> None:
        super().__init__()
        self.eps, self.momentum = norm.eps, norm.momentum
        self._parameters, self._buffers = norm._parameters, norm._buffers
        self._non_persistent_buffers_set = norm._non_persistent_buffers_set
        self.training = norm.training
        self.original = (norm,)  # in a tuple, so that it is no part of the network twice
        # A compiled network pauses here: what processes say to each other belongs to no graph.
        self._together = torch.compiler.disable(self._normalise_together)  # type: ignore[no-untyped-call]

    def forward(self, x: Tensor) -> Tensor:
        """Normalise ``[B, C]`` or ``[B, C, …]`` by the mean and variance of all processes' samples."""
        if not self.training:
            mean, var = self.running_mean, self.running_var
            return F.batch_norm(x, mean, var, self.weight, self.bias, mean is None, 0.0, self.eps)
        return cast(Tensor, self._together(x))

    def _normalise_together(self, x: Tensor) -> Tensor:
        y, mean, var = _NormaliseTogether.apply(x, self.weight, self.bias, self.eps)  # type: ignore[no-untyped-call]
        self._remember(mean, var, dist.get_world_size() * x.numel() // x.shape[1])
        return cast(Tensor, y)

    @torch.no_grad()
    def _remember(self, mean: Tensor, var: Tensor, count: int) -> None:
        """Move the running statistics as the original would have: its variance is the unbiased one."""
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked += 1
        share = 1.0 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), share)
        self.running_var.lerp_((var * (count / max(1, count - 1))).to(self.running_var.dtype), share)


class _NormaliseTogether(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        mean, var = pooled_moments(*_own_moments(x))  # [C], [C]
        y = F.batch_norm(x, mean, var, weight, bias, False, 0.0, eps)
        ctx.eps = eps
        ctx.save_for_backward(x, weight, mean, var)
        ctx.mark_non_differentiable(mean, var)
        return y, mean, var

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, gradient: Tensor, _mean: Tensor, _var: Tensor
    ) -> tuple[Tensor, Tensor | None, Tensor | None, None]:
        x, weight, mean, var = ctx.saved_tensors
        scale = torch.ones_like(mean) if weight is None else weight
        # As if mean and variance were constants: their share needs the sums of all processes and follows below.
        of_x, of_weight, of_bias = _native.native_batch_norm_backward(
            gradient, x, scale, mean, var, None, None, False, ctx.eps, [True, True, True]
        )
        sums = torch.stack((of_bias, of_weight)).to(mean.dtype)  # [2, C]: of g, and of g times normalised x
        dist.all_reduce(sums)
        sums /= dist.get_world_size() * x.numel() // x.shape[1]
        deviation = torch.rsqrt(var + ctx.eps)
        slope = -scale * deviation.square() * sums[1]
        offset = -scale * deviation * sums[0] - slope * mean
        of_x.add_(_per_channel(offset, x)).addcmul_(x, _per_channel(slope, x))
        trained = weight is not None
        return of_x, of_weight if trained else None, of_bias if ctx.needs_input_grad[2] else None, None


def _own_moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and biased variance of every channel, at least in float32."""
    unused = x.new_ones(x.shape[1], dtype=torch.promote_types(x.dtype, torch.float32))
    mean, var = _native.batch_norm_update_stats(x, unused, unused.clone(), 0.0)  # whose type is the results'
    return mean, var


def pooled_moments(mean: Tensor, var: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and variance of all processes' samples together, from those of each one's equally many.

    Args:
        mean: ``[C]`` of this process.
        var: ``[C]``, biased.

    Returns:
        ``[C]`` and ``[C]``, the variance by the rule of Chan, Golub and LeVeque (1979): no squares are subtracted.
    """
    own = torch.stack((mean, var))  # [2, C]
    every = own.new_zeros(dist.get_world_size(), *own.shape)  # [world, 2, C]
    every[dist.get_rank()] = own
    dist.all_reduce(every)  # a sum of one number and of zeros: exact, and the same whoever is asked
    means, variances = every.unbind(1)
    whole = means.mean(0)
    return whole, variances.mean(0) + (means - whole).square().mean(0)


@contextmanager
def synchronised(network: nn.Module, wanted: bool = True) -> Iterator[None]:
    """Let the batch norms of a network share their statistics with the other processes while the context lasts.

    Args:
        network: changed in place, and back at the end; its ``state_dict`` keeps its names and its tensors.
        wanted: False leaves everything as it is.
    """
    places = list(_norms(network)) if wanted else []
    for parent, name, norm in places:
        setattr(parent, name, SyncedNorm(norm))
    try:
        yield
    finally:
        for parent, name, norm in places:
            norm.training = getattr(parent, name).training
            setattr(parent, name, norm)


def _norms(network: nn.Module) -> Iterator[tuple[nn.Module, str, _BatchNorm]]:
    """Name the ordinary batch norms; a subclass with a pass of its own is not ours to replace."""
    for parent in network.modules():
        for name, child in parent.named_children():
            if isinstance(child, _BatchNorm) and type(child).forward is _BatchNorm.forward:
                yield parent, name, child


def _per_channel(values: Tensor, x: Tensor) -> Tensor:
    return values.to(x.dtype).view(1, -1, *(1,) * (x.ndim - 2))
