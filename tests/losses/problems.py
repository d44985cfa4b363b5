"""Random problems for the engines of the frozen softmax, and what an engine makes of them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from proxylesskd.losses.engines.engine import Engine
from proxylesskd.losses.frozen_softmax import frozen_softmax
from proxylesskd.losses.margin import Margin
from proxylesskd.losses.rows import Rows


def problem(
    batch: int, count: int, dim: int, seed: int = 0, target: float | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Random embeddings, unit rows and labels in float64; ``target`` sets the cosine with the own row."""
    generator = torch.Generator().manual_seed(seed)
    rows = F.normalize(torch.randn(count, dim, generator=generator, dtype=torch.float64), dim=1)
    labels = torch.randint(count, (batch,), generator=generator)
    embeddings = torch.randn(batch, dim, generator=generator, dtype=torch.float64)
    if target is not None:
        own = rows[labels]
        across = F.normalize(embeddings - (embeddings * own).sum(1, keepdim=True) * own, dim=1)
        embeddings = 3.0 * (target * own + (1 - target**2) ** 0.5 * across)
    return embeddings, rows, labels


def loss_and_gradient(
    embeddings: Tensor,
    rows: Rows,
    labels: Tensor,
    margin: Margin,
    engine: str | Engine,
    scale: float = 64.0,
    smoothing: float = 0.0,
) -> tuple[Tensor, Tensor]:
    leaf = embeddings.clone().requires_grad_()
    losses = frozen_softmax(
        leaf, rows, labels, margin=margin, scale=scale, engine=engine, reduction="none", smoothing=smoothing
    )
    losses.sum().backward()
    assert leaf.grad is not None
    return losses.detach(), leaf.grad


def plain_arcface(
    embeddings: Tensor, rows: Tensor, labels: Tensor, margin: float, scale: float
) -> tuple[Tensor, Tensor]:
    """ArcFace as everybody writes it: all logits, the margin on the target, PyTorch's cross-entropy."""
    leaf = embeddings.clone().requires_grad_()
    cosine = F.normalize(leaf) @ rows.T
    own = cosine.gather(1, labels[:, None])
    angle = torch.acos(own.clamp(-1 + 1e-7, 1 - 1e-7))
    shifted = torch.where(
        angle + margin > torch.pi, own - margin * torch.sin(torch.tensor(margin)), (angle + margin).cos()
    )
    losses = F.cross_entropy(
        scale * cosine.scatter(1, labels[:, None], shifted.to(cosine.dtype)), labels, reduction="none"
    )
    losses.sum().backward()
    assert leaf.grad is not None
    return losses.detach(), leaf.grad


def relative(found: Tensor, exact: Tensor) -> float:
    """Length of the error over the length of the truth."""
    return float((found.double() - exact.double()).norm() / exact.double().norm())
