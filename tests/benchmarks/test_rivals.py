"""The rivals compute what they claim: their equations in plain loops, in float64."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from rivals import SCALE, adadistill, partial_fc, plain, sample_classes, textbook, torch_fused
from torch import Tensor

C, B, D = 23, 6, 8


def _problem(seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(C, D, generator=generator, dtype=torch.float64)
    rows /= rows.norm(dim=1, keepdim=True)
    labels = torch.tensor([3, 3, 0, 22, 7, 11])
    embeddings = 2 * rows[labels] + torch.randn(B, D, generator=generator, dtype=torch.float64)
    return embeddings.requires_grad_(), rows, labels


def _loss(embeddings: Any, rows: Any, labels: Any, margin: float, classes: Any = None) -> float:
    """The mean of -log softmax of the margined logits, one number at a time."""
    total = 0.0
    for x, label in zip(embeddings, labels, strict=True):
        logits = {}
        for j in range(len(rows)) if classes is None else classes:
            cosine = sum(a * b for a, b in zip(x, rows[j], strict=True)) / math.sqrt(sum(a * a for a in x))
            angle = math.acos(max(-1.0, min(1.0, cosine))) + (margin if j == label else 0.0)
            logits[j] = SCALE * math.cos(angle)
        top = max(logits.values())
        total += top + math.log(sum(math.exp(z - top) for z in logits.values())) - logits[label]
    return total / len(labels)


def _slopes(f: Callable[[Any], float], at: Any) -> Any:
    """Central differences."""
    found = np.zeros_like(at)
    for place in np.ndindex(*at.shape):
        step = np.zeros_like(at)
        step[place] = 1e-5
        found[place] = (f(at + step) - f(at - step)) / 2e-5
    return found


@pytest.mark.parametrize(
    ("begin", "margin"),
    [
        (plain, 0.5),
        (lambda rows, labels: plain(rows, labels, trained=True), 0.5),
        (lambda rows, labels: plain(rows, labels, folded=True), 0.5),
        (textbook, 0.5),
        pytest.param(
            lambda rows, labels: torch_fused(rows, labels, one_chunk=True),
            0.0,
            marks=pytest.mark.skipif(
                not hasattr(torch.nn, "LinearCrossEntropyOptions"), reason="this PyTorch has no such loss"
            ),
        ),
        (lambda rows, labels: adadistill(rows.T.contiguous(), labels, lambda: rows[labels]), 0.5),
    ],
)
def test_exact_heads_are_their_equation(begin: Any, margin: float) -> None:
    embeddings, rows, labels = _problem()
    x, w, y = embeddings.detach().numpy(), rows.numpy(), labels.tolist()
    # float64 stays float64 except for plain's target, which goes through float32 as it does under autocast
    assert float(begin(rows, labels)(embeddings).detach()) == pytest.approx(_loss(x, w, y, margin), rel=1e-5)
    expected = _slopes(lambda at: _loss(at, w, y, margin), x)
    np.testing.assert_allclose(embeddings.grad, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("frozen", [True, False])
def test_partial_fc_is_arcface_with_the_plain_cosines_slope(frozen: bool) -> None:
    embeddings, rows, labels = _problem()
    before = rows.clone()
    loss = partial_fc(rows, labels, frozen=frozen)(embeddings)
    x, w, y = embeddings.detach().numpy(), before.numpy(), labels.tolist()
    assert float(loss.detach()) == pytest.approx(_loss(x, w, y, 0.5), rel=1e-9)

    def straight(at: Any) -> float:
        """Softmax weights of the margined logits, held, times plain cosines: its slope is the straight-through one."""
        total = 0.0
        for x_at, x_here, label in zip(at, x, y, strict=True):
            cosine = w @ x_here / np.linalg.norm(x_here)
            cosine[label] = math.cos(math.acos(cosine[label]) + 0.5)
            p = np.exp(SCALE * (cosine - cosine.max()))
            p /= p.sum()
            moving = SCALE * (w @ x_at) / np.linalg.norm(x_at)
            total += p @ moving - moving[label]
        return total / len(y)

    expected = _slopes(straight, x)
    np.testing.assert_allclose(embeddings.grad, expected, rtol=1e-6, atol=1e-8 * np.abs(expected).max())
    assert torch.equal(rows, before)  # a learning rate of 0 leaves the rows that all share


def test_partial_fc_on_a_sample_is_the_loss_over_that_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    embeddings, rows, labels = _problem()
    drawn = []
    monkeypatch.setattr("rivals.sample_classes", lambda *given: drawn.append(sample_classes(*given)) or drawn[0])
    loss = partial_fc(rows, labels, rate=0.4, frozen=True)(embeddings)
    classes, places = drawn[0]
    assert len(classes) == 9  # int(0.4 * 23)
    assert classes.tolist() == sorted(set(classes.tolist()))
    assert classes[places].tolist() == labels.tolist()
    x, w = embeddings.detach().numpy(), rows.numpy()
    assert float(loss.detach()) == pytest.approx(_loss(x, w, labels.tolist(), 0.5, classes.tolist()), rel=1e-9)


def test_adadistills_centres_move_as_its_equation_says() -> None:
    embeddings, rows, labels = _problem()
    labels = torch.tensor([3, 5, 0, 22, 7, 11])  # each once: of two samples of one class the last would win
    teacher = torch.randn(B, D, generator=torch.Generator().manual_seed(5), dtype=torch.float64) + rows[labels]
    kernel = (1.7 * rows.T).contiguous()  # centres are not of unit length
    loss = adadistill(kernel, labels, lambda: teacher)(embeddings)
    centres = 1.7 * rows.numpy()
    for x, t, label in zip(embeddings.detach().numpy(), teacher.numpy(), labels.tolist(), strict=True):
        t_unit, w = t / math.sqrt(t @ t), centres[label].copy()
        near = max(1e-6, min(1.0, float(w @ t_unit) / math.sqrt(w @ w)))
        alpha = max(1e-6, min(1.0, float(x @ t_unit) / math.sqrt(x @ x) * near))
        centres[label] = alpha * w + (1 - alpha) * t_unit
    np.testing.assert_allclose(kernel.T, centres, rtol=1e-12)
    unit = centres / np.linalg.norm(centres, axis=1, keepdims=True)
    expected = _loss(embeddings.detach().numpy(), unit, labels.tolist(), 0.5)
    assert float(loss.detach()) == pytest.approx(expected, rel=1e-9)
