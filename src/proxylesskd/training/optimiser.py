"""The optimiser: what moves, and what decays."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from proxylesskd.errors import UserError, nearest

OPTIMISERS = ("sgd", "adamw")


def make_optimiser(
    named_parameters: Iterable[tuple[str, nn.Parameter]],
    *,
    kind: str = "sgd",
    lr: float,
    momentum: float = 0.9,
    nesterov: bool = True,
    weight_decay: float = 5e-4,
) -> torch.optim.Optimizer:
    """Build the optimiser over two groups: what decays and what does not.

    The rule: a parameter with two or more dimensions (a convolution's or a linear layer's weights, a trained
    classifier) decays; one with fewer (a bias, the scale and shift of a norm, PReLU's slopes) does not, since
    decay there shrinks what the network needs and regularises nothing. A frozen parameter is left out.

    Args:
        named_parameters: as ``nn.Module.named_parameters()`` gives them.
        kind: ``"sgd"`` or ``"adamw"`` (decoupled decay, arXiv 1711.05101).
        lr: learning rate; the loop sets it anew for every step.
        momentum: of SGD; β₁ of AdamW, whose β₂ is 0.999.
        nesterov: Nesterov's momentum; SGD alone.
        weight_decay: of the group that decays.

    Raises:
        UserError: an unknown kind, Nesterov without momentum, a negative setting, or nothing to train.
    """
    _validate(kind, lr, momentum, nesterov, weight_decay)
    parameters = [p for _, p in named_parameters if p.requires_grad]
    if not parameters:
        raise UserError("expected parameters to train, found none that requires a gradient; unfreeze the student")
    groups = decay_groups(parameters, weight_decay)
    if kind == "sgd":
        return torch.optim.SGD(groups, lr=lr, momentum=momentum, nesterov=nesterov)
    return torch.optim.AdamW(groups, lr=lr, betas=(momentum, 0.999))


def decay_groups(parameters: Iterable[nn.Parameter], weight_decay: float) -> list[dict[str, object]]:
    """Split parameters into those with two or more dimensions, which decay, and the others, which do not."""
    parameters = list(parameters)
    matrices = [p for p in parameters if p.ndim > 1]
    vectors = [p for p in parameters if p.ndim <= 1]
    groups: list[dict[str, object]] = [
        {"params": matrices, "weight_decay": weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def _validate(kind: str, lr: float, momentum: float, nesterov: bool, weight_decay: float) -> None:
    if kind not in OPTIMISERS:
        known = ", ".join(OPTIMISERS)
        raise UserError(f"expected an optimiser among {known}, found '{kind}'{nearest(kind, OPTIMISERS)}")
    if lr < 0 or not 0 <= momentum < 1 or weight_decay < 0:
        raise UserError(
            "expected lr >= 0, momentum in [0, 1) and weight_decay >= 0, "
            f"found lr={lr}, momentum={momentum}, weight_decay={weight_decay}"
        )
    if kind == "sgd" and nesterov and momentum == 0:
        raise UserError("Nesterov's method needs momentum, found momentum=0; set nesterov=false or a momentum")
