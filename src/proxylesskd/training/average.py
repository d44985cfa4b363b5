"""Means over all processes: of gradients, of what is logged; and one beginning for all.

The gradients go as one bucket whose layout never changes. DistributedDataParallel lays its buckets out anew after its
first step; a ring of three or more processes then adds in another order, and a resumed training would end with other
bits than one that never stopped.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn


def average_gradients(parameters: Sequence[nn.Parameter]) -> None:
    """Replace every gradient by its mean over all processes.

    A parameter without a gradient counts as zero; one that has none anywhere keeps none, so that the optimiser leaves
    it alone as it would in one process.

    Args:
        parameters: on one device, the same in every process and in the same order.
    """
    for dtype in dict.fromkeys(parameter.dtype for parameter in parameters):
        _average_bucket([parameter for parameter in parameters if parameter.dtype == dtype])


def _average_bucket(parameters: Sequence[nn.Parameter]) -> None:
    gradients = [p.grad for p in parameters]
    present = torch.tensor([g is not None for g in gradients])
    flat = [(torch.zeros_like(p) if g is None else g).reshape(-1) for p, g in zip(parameters, gradients, strict=True)]
    bucket = torch.cat([*flat, present.to(flat[0])])
    dist.all_reduce(bucket)
    bucket /= dist.get_world_size()
    *means, anywhere = torch.split(bucket, [*(p.numel() for p in parameters), len(parameters)])
    wanted = [True] * len(parameters) if None not in gradients else (anywhere > 0).tolist()
    for parameter, gradient, mean, keep in zip(parameters, gradients, means, wanted, strict=True):
        if gradient is not None:
            gradient.copy_(mean.view_as(gradient))
        elif keep:
            parameter.grad = torch.empty_like(parameter).copy_(mean.view(parameter.shape))


def averaged(scalars: Tensor) -> Tensor:
    """Return the mean over all processes of every number in a tensor, as a new tensor."""
    means = scalars.clone()
    dist.all_reduce(means)
    return means.div_(dist.get_world_size())


@torch.no_grad()
def begin_alike(network: nn.Module, parameters: Iterable[nn.Parameter]) -> None:
    """Give every process the first one's parameters and buffers, and all but the first random numbers of their own.

    Args:
        network: the student.
        parameters: what is trained beyond it may be among them.
    """
    for tensor in {id(t): t for t in (*network.parameters(), *network.buffers(), *parameters)}.values():
        whole = tensor.contiguous()
        dist.broadcast(whole, src=0)
        tensor.copy_(whole)
    if dist.get_rank():  # dropout must not leave out the same places in every share of a batch
        torch.manual_seed(torch.initial_seed() + dist.get_rank())
