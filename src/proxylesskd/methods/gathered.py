"""The whole batch in every process, with its gradient: what a loss that looks across samples is made of."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from proxylesskd.losses.engines.collective import Group, from_all_ranks, own_share_of_sum, world_size


class _Gathered(torch.autograd.Function):
    """All parts in front; behind, the sum over ranks of what each asks of this rank's part."""

    @staticmethod
    def forward(ctx: Any, part: Tensor, group: Group) -> Tensor:
        ctx.group = group
        return from_all_ranks(part, group)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return own_share_of_sum(grads[0], ctx.group), None


def gathered(part: Tensor, group: Group = None) -> Tensor:
    """Return ``[N B, …]``, the parts ``[B, …]`` of all N ranks in their order; with one process, the part itself.

    Each rank computes the same loss of the same whole and asks ``∂L/∂whole`` of it. The backward sums this over ranks
    and returns the own rows, N times the gradient of the loss; the mean of the parameters' gradients over ranks, which
    the training takes, is then the gradient that one process would find. What a rank's loss says of its own part alone
    needs no gathering: the same mean makes it right.

    Args:
        part: ``[B, …]`` of any dtype, of one shape on all ranks. Every rank must call this, in the same order, and
            must go back through all or none of the results.
        group: of processes, all of them unless given.
    """
    if world_size(group) == 1:
        return part
    if not (part.requires_grad and torch.is_grad_enabled()):
        return from_all_ranks(part, group)
    whole: Tensor = _Gathered.apply(part, group)  # type: ignore[no-untyped-call]
    return whole
