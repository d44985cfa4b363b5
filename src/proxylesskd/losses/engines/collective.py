"""What the engines say to each other where a training runs on several processes."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor

Group = dist.ProcessGroup | None


def world_size(group: Group = None) -> int:
    """Return how many processes train together, 1 without `torch.distributed`."""
    return dist.get_world_size(group) if dist.is_available() and dist.is_initialized() else 1


def rank_in(group: Group = None) -> int:
    """Return this process's number among them."""
    return dist.get_rank(group) if dist.is_available() and dist.is_initialized() else 0


def from_all_ranks(part: Tensor, group: Group = None) -> Tensor:
    """Return ``[N B, …]``, the equally large parts ``[B, …]`` of all ranks in their order, without gradients."""
    world = world_size(group)
    if world == 1:
        return part.detach()
    parts = [torch.empty_like(part) for _ in range(world)]
    dist.all_gather(parts, part.detach().contiguous(), group=group)
    return torch.cat(parts)


def own_share_of_sum(whole: Tensor, group: Group = None) -> Tensor:
    """Return ``[B, …]``: the sum over ranks of their ``[N B, …]``, of which rank r keeps the r-th part."""
    world = world_size(group)
    if world == 1:
        return whole
    share = whole.new_empty(whole.shape[0] // world, *whole.shape[1:])
    # the same operation under the name of newer torch, where it has one
    reduce_scatter = getattr(dist, "reduce_scatter_single", None) or dist.reduce_scatter_tensor
    reduce_scatter(share, whole.contiguous(), group=group)
    return share


def sum_over_ranks(values: Tensor, group: Group = None) -> Tensor:
    """Return the sum of all ranks' tensors of one shape."""
    return _reduced(values, group, dist.ReduceOp.SUM)


def largest_over_ranks(values: Tensor, group: Group = None) -> Tensor:
    """Return the largest of all ranks' values, element by element."""
    return _reduced(values, group, dist.ReduceOp.MAX)


def _reduced(values: Tensor, group: Group, how: dist.ReduceOp.RedOpType) -> Tensor:
    if world_size(group) == 1:
        return values
    values = values.contiguous().clone()
    dist.all_reduce(values, how, group=group)
    return values
