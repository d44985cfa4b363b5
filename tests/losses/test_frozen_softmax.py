from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from proxylesskd.errors import UserError
from proxylesskd.losses.engines.chunked import CHUNK
from proxylesskd.losses.frozen_softmax import frozen_softmax, margin_softmax
from proxylesskd.losses.margin import ArcFace, CosFace, Margin
from tests.reference import softmax as reference

MARGINS = {
    "arcface": (ArcFace(0.5), lambda c: reference.arcface(c, 0.5)),
    "cosface": (CosFace(0.35), lambda c: c - 0.35),
}


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
    embeddings: Tensor, rows: Tensor, labels: Tensor, margin: Margin, engine: str, scale: float = 64.0
) -> tuple[Tensor, Tensor]:
    leaf = embeddings.clone().requires_grad_()
    losses = frozen_softmax(leaf, rows, labels, margin=margin, scale=scale, engine=engine, reduction="none")
    losses.sum().backward()
    assert leaf.grad is not None
    return losses.detach(), leaf.grad


@pytest.mark.parametrize("engine", ["reference", "chunked"])
@pytest.mark.parametrize("name", MARGINS)
@pytest.mark.parametrize("scale", [16.0, 64.0])
def test_loss_and_gradient_against_plain_loops(engine: str, name: str, scale: float) -> None:
    margin, plain = MARGINS[name]
    embeddings, rows, labels = problem(5, 11, 4)
    losses, gradient = loss_and_gradient(embeddings, rows, labels, margin, engine, scale)

    def total(point: np.ndarray) -> float:
        return float(reference.losses(point, rows.numpy(), labels.tolist(), plain, scale).sum())

    expected = reference.losses(embeddings.numpy(), rows.numpy(), labels.tolist(), plain, scale)
    np.testing.assert_allclose(losses.numpy(), expected, rtol=1e-10)
    np.testing.assert_allclose(gradient.numpy(), reference.numeric_gradient(total, embeddings.numpy()), atol=2e-6)


@pytest.mark.parametrize("engine", ["reference", "chunked"])
@pytest.mark.parametrize("margin", [ArcFace(0.5), CosFace(0.35)])
def test_gradcheck(engine: str, margin: Margin) -> None:
    embeddings, rows, labels = problem(4, 9, 5, seed=3)
    assert torch.autograd.gradcheck(
        lambda x: frozen_softmax(x, rows, labels, margin=margin, scale=8.0, engine=engine), embeddings.requires_grad_()
    )


@settings(max_examples=30, deadline=None)
@given(
    batch=st.integers(1, 40),
    count=st.integers(2, 2 * CHUNK + 3),
    dim=st.integers(2, 24),
    target=st.floats(-0.95, 0.95),
    seed=st.integers(0, 10_000),
)
def test_chunked_float32_agrees_with_float64(batch: int, count: int, dim: int, target: float, seed: int) -> None:
    embeddings, rows, labels = problem(batch, count, dim, seed, target)
    exact = loss_and_gradient(embeddings, rows, labels, ArcFace(0.5), "reference")
    single = loss_and_gradient(embeddings.float(), rows.float(), labels, ArcFace(0.5), "chunked")
    plain = loss_and_gradient(embeddings.float(), rows.float(), labels, ArcFace(0.5), "reference")
    for got, want, naive in zip(single, exact, plain, strict=True):
        bound = max(5e-6 * float(want.norm()), 1.5 * float((naive - want).norm()), 1e-7)
        assert float((got - want).norm()) <= bound


@pytest.mark.parametrize("target", [0.6, 0.7, 0.8, 0.9])
def test_negatives_survive_a_dominant_target(target: float) -> None:
    """Where a target taken out of a finished sum would leave a loss of exactly zero."""
    embeddings, rows, labels = problem(16, 9000, 64, seed=5, target=target)
    exact, _ = loss_and_gradient(embeddings, rows, labels, ArcFace(0.5), "reference")
    single, _ = loss_and_gradient(embeddings.float(), rows.float(), labels, ArcFace(0.5), "chunked")
    assert float(exact.min()) > 0
    np.testing.assert_allclose(single.numpy(), exact.numpy(), rtol=2e-4)


@pytest.mark.parametrize(("dtype", "bound"), [(torch.bfloat16, 6e-3), (torch.float16, 2e-3)])
def test_half_precision_rows(dtype: torch.dtype, bound: float) -> None:
    embeddings, rows, labels = problem(32, 5000, 64, seed=7, target=0.3)
    kept = rows.to(dtype).double()
    _, exact = loss_and_gradient(embeddings, kept, labels, CosFace(0.35), "reference")
    _, stored = loss_and_gradient(embeddings.float(), rows.to(dtype), labels, CosFace(0.35), "chunked")
    assert float((stored - exact).norm() / exact.norm()) < bound


def test_a_large_scale_does_not_overflow() -> None:
    embeddings, rows, labels = problem(8, 5000, 16, target=-0.5)
    losses, gradient = loss_and_gradient(
        embeddings.float(), rows.float(), labels, CosFace(0.35), "chunked", scale=100.0
    )
    exact, _ = loss_and_gradient(embeddings, rows, labels, CosFace(0.35), "reference", scale=100.0)
    assert bool(torch.isfinite(gradient).all())
    np.testing.assert_allclose(losses.numpy(), exact.numpy(), rtol=1e-5)


def test_accuracy_ignores_the_margin() -> None:
    embeddings, rows, labels = problem(64, 50, 8, target=0.6)
    expected = (F.normalize(embeddings, dim=1) @ rows.T).argmax(dim=1) == labels
    for engine in ("reference", "chunked"):
        _, correct = margin_softmax(embeddings, rows, labels, margin=ArcFace(0.5), scale=64.0, engine=engine)
        assert torch.equal(correct, expected)
    assert 0 < int(expected.sum()) < 64


def test_reductions_and_weights() -> None:
    embeddings, rows, labels = problem(6, 10, 4)
    weights = torch.tensor([0.0, 1.0, 2.0, 0.5, 0.0, 1.5], dtype=torch.float64)
    each = frozen_softmax(embeddings, rows, labels, margin=CosFace(), reduction="none")
    kinds = {r: frozen_softmax(embeddings, rows, labels, margin=CosFace(), reduction=r) for r in ("mean", "sum")}
    weighted = frozen_softmax(embeddings, rows, labels, margin=CosFace(), sample_weight=weights)
    assert kinds["mean"].item() == pytest.approx(float(np.mean(each.numpy())))
    assert kinds["sum"].item() == pytest.approx(float(np.sum(each.numpy())))
    assert weighted.item() == pytest.approx(float(np.average(each.numpy(), weights=weights.numpy())))


def test_rows_get_no_gradient_and_trained_rows_do() -> None:
    embeddings, rows, labels = problem(4, 6, 3)
    rows.requires_grad_()
    embeddings.requires_grad_()
    frozen_softmax(embeddings, rows, labels, margin=CosFace()).backward()
    assert rows.grad is None
    losses, _ = margin_softmax(embeddings, rows, labels, margin=CosFace(), scale=16.0)
    losses.sum().backward()
    assert rows.grad is not None
    with pytest.raises(UserError, match="frozen rows"):
        margin_softmax(embeddings, rows, labels, margin=CosFace(), scale=16.0, engine="chunked")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rows": torch.zeros(5, 3)}, r"one dimension D.*dim=3"),
        ({"labels": torch.tensor([0, 1])}, "labels"),
        ({"labels": torch.tensor([0, 9, 1])}, r"labels in \[0, 5\), found 0 to 9"),
        ({"labels": torch.tensor([0, -1, 1])}, "found -1 to 1"),
        ({"scale": 0.0}, "positive scale"),
        ({"engine": "chunkd"}, "did you mean 'chunked'"),
        ({"reduction": "average"}, "mean, sum or none"),
        ({"sample_weight": torch.ones(2)}, "one weight a sample"),
    ],
)
def test_wrong_input_is_named(change: dict[str, object], message: str) -> None:
    arguments: dict[str, object] = {
        "embeddings": torch.ones(3, 4),
        "rows": F.normalize(torch.ones(5, 4), dim=1),
        "labels": torch.tensor([0, 1, 2]),
        "margin": CosFace(),
    }
    with pytest.raises(UserError, match=message):
        frozen_softmax(**(arguments | change))  # type: ignore[arg-type]
