"""Other people's heads, written anew from their descriptions: what they compute and what they touch, for measuring.

Each takes ``[B, D]`` embeddings that require a gradient and returns the mean loss after its backward pass (and its
optimiser, where it has one), with the gradient in ``embeddings.grad``. Where a description leaves a choice, the cheaper
one was taken. Communication between processes is left out. Learning rates are 0, which costs the same and lets all of
them share one classifier.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

MARGIN, SCALE = 0.5, 64.0

Step = Callable[[Tensor], Tensor]  # [B, D] embeddings -> mean loss, backward pass done


def arcface(cosine: Tensor, margin: float = MARGIN) -> Tensor:
    """Return ``cos(θ + m)``, or ``cos θ - m sin m`` where ``θ + m > π``."""
    sine = (1.0 - cosine * cosine).clamp_min(0).sqrt()
    shifted = cosine * math.cos(margin) - sine * math.sin(margin)
    return torch.where(cosine > -math.cos(margin), shifted, cosine - margin * math.sin(margin))


def plain(rows: Tensor, labels: Tensor, *, trained: bool = False, folded: bool = False) -> Step:
    """Plain PyTorch, tuned: the margin goes onto the target cosines alone, in place, then cross-entropy.

    Args:
        rows: ``[C, D]`` unit rows; in bfloat16 the product is taken in it, as autocast does.
        labels: ``[B] int64``.
        trained: compute the gradient of the rows too, as every head does that does not know them to be frozen.
        folded: multiply the embeddings by the scale instead of the cosines: one ``[B, C]`` less to write.
    """
    weight = rows.detach().requires_grad_(trained)
    samples = torch.arange(len(labels), device=labels.device)

    def step(embeddings: Tensor) -> Tensor:
        weight.grad = None
        inside = SCALE if folded else 1.0
        cosine = F.linear((inside * F.normalize(embeddings, dim=1)).to(weight.dtype), weight)  # [B, C]
        margined = arcface(cosine[samples, labels].float() / inside)
        cosine[samples, labels] = (inside * margined).to(cosine.dtype)
        loss = F.cross_entropy((cosine if folded else SCALE * cosine).float(), labels)
        loss.backward()
        return loss

    return step


def textbook(rows: Tensor, labels: Tensor) -> Step:
    """ArcFace as tutorials have it: margins for all classes, a one-hot matrix picks the targets; rows are trained."""
    weight = rows.detach().requires_grad_()

    def step(embeddings: Tensor) -> Tensor:
        weight.grad = None
        cosine = F.linear(F.normalize(embeddings, dim=1), F.normalize(weight, dim=1))  # [B, C]
        one_hot = torch.zeros_like(cosine).scatter_(1, labels[:, None], 1.0)
        logits = SCALE * (one_hot * arcface(cosine) + (1.0 - one_hot) * cosine)
        loss = F.cross_entropy(logits, labels)
        loss.backward()
        return loss

    return step


class _SoftmaxInPlace(torch.autograd.Function):
    """Cross-entropy that turns ``[B, C]`` logits into probabilities and those into the gradient, without copies."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, labels: Tensor) -> Tensor:
        logits.sub_(logits.amax(dim=1, keepdim=True)).exp_()
        logits.div_(logits.sum(dim=1, keepdim=True))
        ctx.probabilities, ctx.labels = logits, labels
        return -logits.gather(1, labels[:, None]).clamp_min(1e-30).log().mean()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        one_hot = torch.zeros_like(ctx.probabilities).scatter_(1, ctx.labels[:, None], 1.0)
        gradient = ctx.probabilities.sub_(one_hot).div_(len(ctx.labels))
        return gradient * grads[0], None


def sample_classes(count: int, labels: Tensor, rate: float) -> tuple[Tensor, Tensor]:
    """Return ``[n]`` sorted classes, those of the batch and random others, and where each label stands among them."""
    chance = torch.rand(count, device=labels.device)
    own = labels.unique()
    chance[own] = 2.0
    classes = torch.topk(chance, max(int(rate * count), len(own))).indices.sort().values
    return classes, torch.searchsorted(classes, labels)


def partial_fc(rows: Tensor, labels: Tensor, *, rate: float = 1.0, frozen: bool = False) -> Step:
    """PartialFC (An et al., arXiv 2203.15565) as InsightFace's partial_fc_v2 works, in one process.

    Rows are normalised in every step; all cosines are clamped and go through arccos and cos, the margin between the
    two outside of autograd (its gradient is the plain cosine's); the softmax works in place, its gradient takes a dense
    one-hot matrix; rows are moved by SGD with momentum and decay.

    Args:
        rows: ``[C, D]``.
        labels: ``[B] int64``.
        rate: of the classes that a step looks at.
        frozen: no gradient and no optimiser for the rows.
    """
    weight = nn.Parameter(rows, requires_grad=not frozen)
    optimiser = None if frozen else _descent(weight)
    samples = torch.arange(len(labels), device=labels.device)

    def step(embeddings: Tensor) -> Tensor:
        weight.grad = None
        classes, targets = (None, labels) if rate >= 1 else sample_classes(len(weight), labels, rate)
        active = weight if classes is None else weight[classes]  # [n, D]
        cosine = F.linear(F.normalize(embeddings, dim=1), F.normalize(active, dim=1)).clamp(-1, 1)  # [B, n]
        with torch.no_grad():
            cosine.arccos_()
            cosine[samples, targets] += MARGIN
            cosine.cos_()
        loss: Tensor = _SoftmaxInPlace.apply(cosine * SCALE, targets)
        loss.backward()
        if optimiser is not None:
            optimiser.step()
        return loss

    return step


def _descent(weight: nn.Parameter) -> torch.optim.SGD:
    """Return an optimiser as it stands after the first step, when its momentum is in memory."""
    optimiser = torch.optim.SGD([weight], lr=0.0, momentum=0.9, weight_decay=5e-4)
    optimiser.state[weight]["momentum_buffer"] = torch.full_like(weight, 1e-9)
    return optimiser


def adadistill(kernel: Tensor, labels: Tensor, teacher: Callable[[], Tensor], *, margin: float = MARGIN) -> Step:
    """AdaDistill's head (Boutros et al., arXiv 2407.01332): class centres that follow the teacher, ArcFace over them.

    With unit embeddings ``f_s`` and ``f_t``, a centre moves to ``α w + (1 - α) f_t``, ``α = clip(clip(cos(f_s, f_t))
    clip(cos(w, f_t)))``. All centres are normalised in every step, the margin is a dense one-hot matrix, all cosines go
    through arccos and cos. The centres require a gradient, which nobody uses or resets.

    Args:
        kernel: ``[D, C]`` centres; moved.
        labels: ``[B] int64``.
        teacher: gives the ``[B, D]`` teacher embeddings of the batch.
        margin: ``m`` in radians.
    """
    weight = nn.Parameter(kernel)
    weight.grad = torch.full_like(weight, 0.0)

    def step(embeddings: Tensor) -> Tensor:
        unit = F.normalize(embeddings, dim=1)
        with torch.no_grad():
            towards = F.normalize(teacher(), dim=1)
            old = weight[:, labels].T  # [B, D]
            near = (F.normalize(old, dim=1) * towards).sum(dim=1).clamp(1e-6, 1)
            alpha = ((unit * towards).sum(dim=1).clamp(-1, 1) * near).clamp(1e-6, 1)[:, None]
            weight[:, labels] = (alpha * old + (1 - alpha) * towards).T
        cosine = (unit @ F.normalize(weight, dim=0)).clamp(-1, 1)  # [B, C]
        margins = torch.zeros_like(cosine).scatter_(1, labels[:, None], margin)
        loss = F.cross_entropy(SCALE * (cosine.acos() + margins).cos(), labels)
        loss.backward()
        return loss

    return step


def torch_fused(rows: Tensor, labels: Tensor, *, one_chunk: bool) -> Step:
    """torch's own linear_cross_entropy, which takes no margin; by default it goes through the batch in small pieces."""
    method = None if one_chunk else "auto"
    options = nn.LinearCrossEntropyOptions(chunking_method=method)
    return _without_margin(lambda x: F.linear_cross_entropy(x, rows, labels, options=options))


def liger(rows: Tensor, labels: Tensor) -> Step:
    """Liger's fused linear cross-entropy (CUDA)."""
    from liger_kernel.transformers import LigerFusedLinearCrossEntropyLoss

    fused = LigerFusedLinearCrossEntropyLoss()
    return _without_margin(lambda x: fused(rows, x, labels))


def cut_cross_entropy(rows: Tensor, labels: Tensor) -> Step:
    """Apple's Cut Cross-Entropy (CUDA)."""
    from cut_cross_entropy import linear_cross_entropy

    return _without_margin(lambda x: linear_cross_entropy(x, rows, labels))


def quack(rows: Tensor, labels: Tensor) -> Step:
    """QuACK's chunked linear cross-entropy (CUDA, SM90), in one chunk; its classes must be a multiple of 128."""
    from quack.linear_cross_entropy import chunked_linear_cross_entropy

    return _without_margin(lambda x: chunked_linear_cross_entropy(x, rows, labels, chunk_size=len(x), reduction="mean"))


def _without_margin(fused: Callable[[Tensor], Tensor]) -> Step:
    """Feed scaled unit embeddings to a fused cross-entropy; in bfloat16 on CUDA, where all of these work in it."""

    def step(embeddings: Tensor) -> Tensor:
        scaled = SCALE * F.normalize(embeddings, dim=1)
        loss = fused(scaled.bfloat16() if scaled.is_cuda else scaled)
        loss.backward()
        return loss

    return step
