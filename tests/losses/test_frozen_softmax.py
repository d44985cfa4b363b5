from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from proxylesskd.errors import UserError
from proxylesskd.losses.adaptive_margin import CurricularFace, MagFace
from proxylesskd.losses.frozen_softmax import frozen_softmax, margin_softmax
from proxylesskd.losses.make_margin import NAMES, make_margin
from proxylesskd.losses.margin import ArcFace, CosFace, Margin
from tests.losses.problems import loss_and_gradient, problem, relative
from tests.reference import softmax as reference

MARGINS = {
    "arcface": (ArcFace(0.5), lambda c: reference.arcface(c, 0.5)),
    "cosface": (CosFace(0.35), lambda c: c - 0.35),
}


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
        ({"labels": torch.tensor([0, 5, 1])}, "found 0 to 5"),
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


@pytest.mark.parametrize("engine", ["reference", "chunked"])
@pytest.mark.parametrize("smoothing", [0.05, 0.3])
def test_label_smoothing_is_that_of_pytorch(engine: str, smoothing: float) -> None:
    embeddings, rows, labels = problem(7, 30, 6, target=0.3)
    losses, gradient = loss_and_gradient(embeddings, rows, labels, CosFace(0.2), engine, 16.0, smoothing)
    leaf = embeddings.clone().requires_grad_()
    logits = F.normalize(leaf, dim=1) @ rows.T - 0.2 * F.one_hot(labels, 30)
    expected = F.cross_entropy(16.0 * logits, labels, reduction="none", label_smoothing=smoothing)
    expected.sum().backward()
    torch.testing.assert_close(losses, expected.detach())
    torch.testing.assert_close(gradient, leaf.grad)


def test_the_mean_row_may_be_given() -> None:
    embeddings, rows, labels = problem(7, 30, 6)
    settings: dict[str, Any] = {"margin": CosFace(), "scale": 8.0, "smoothing": 0.1}
    taken, _ = margin_softmax(embeddings, rows, labels, **settings)
    given, _ = margin_softmax(embeddings, rows, labels, **settings, mean_row=rows.mean(dim=0))
    torch.testing.assert_close(given, taken)


def test_a_penalty_is_added() -> None:
    embeddings, rows, labels = problem(5, 12, 4)
    embeddings = 20 * embeddings
    with_penalty, _ = loss_and_gradient(embeddings, rows, labels, MagFace(penalty=10.0), "reference")
    without, _ = loss_and_gradient(embeddings, rows, labels, MagFace(penalty=0.0), "reference")
    length = np.clip(np.linalg.norm(embeddings.numpy(), axis=1), 10, 110)
    np.testing.assert_allclose(with_penalty - without, 10 * (1 / length + length / 110**2))


@pytest.mark.parametrize("engine", ["reference", "chunked"])
@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("arcface", "cosface", "none")])
def test_every_margin_goes_through_every_engine(engine: str, name: str) -> None:
    embeddings, rows, labels = problem(6, 5000, 8, seed=2, target=0.4)
    margin = make_margin(name, 0.4, m1=1.1, m3=0.1)
    if isinstance(margin, torch.nn.Module):
        margin.eval()
    exact = loss_and_gradient(20 * embeddings, rows, labels, margin, "reference")
    found = loss_and_gradient(20 * embeddings.float(), rows.float(), labels, margin, engine)
    for got, want in zip(found, exact, strict=True):
        assert relative(got, want) < 5e-6


def test_embeddings_of_autocast() -> None:
    embeddings, rows, labels = problem(6, 50, 16, target=0.3)
    halves = embeddings.to(torch.bfloat16)
    found = frozen_softmax(halves, rows.float(), labels, margin=ArcFace(), engine="chunked")
    exact = frozen_softmax(halves.double(), rows, labels, margin=ArcFace(), engine="reference")
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(exact.item(), rel=1e-5)


@pytest.mark.parametrize("engine", ["reference", "chunked"])
def test_autocast_does_not_reach_the_cosines(engine: str) -> None:
    embeddings, rows, labels = problem(6, 50, 16, target=0.3)
    leaf, single = embeddings.float().requires_grad_(), rows.float()
    settings: dict[str, Any] = {"margin": ArcFace(), "engine": engine, "smoothing": 0.1}
    expected = frozen_softmax(leaf, single, labels, **settings)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = frozen_softmax(leaf, single, labels, **settings)
    assert torch.equal(found, expected)
    gradients = [torch.autograd.grad(loss, leaf)[0] for loss in (found, expected)]
    assert torch.equal(*gradients)


def test_smoothing_that_cannot_be_meant() -> None:
    embeddings, rows, labels = problem(3, 5, 4)
    with pytest.raises(UserError, match=r"label smoothing in \[0, 1\)"):
        frozen_softmax(embeddings, rows, labels, margin=CosFace(), smoothing=1.0)
    with pytest.raises(UserError, match="bends hard negatives"):
        frozen_softmax(embeddings, rows, labels, margin=CurricularFace(), smoothing=0.1)


@pytest.mark.parametrize("engine", ["reference", "chunked"])
def test_one_identity_has_nothing_to_be_told_from(engine: str) -> None:
    embeddings, rows, labels = problem(3, 1, 4)
    losses, gradient = loss_and_gradient(embeddings, rows, labels, ArcFace(), engine)
    assert torch.equal(losses, torch.zeros(3, dtype=torch.float64))
    assert torch.equal(gradient, torch.zeros(3, 4, dtype=torch.float64))


def test_no_identity_is_refused() -> None:
    with pytest.raises(UserError, match="at least one identity"):
        frozen_softmax(torch.ones(2, 4), torch.zeros(0, 4), torch.zeros(2, dtype=torch.int64), margin=CosFace())


@pytest.mark.parametrize("engine", ["reference", "chunked"])
def test_what_stands_in_for_the_own_row_is_near_only_to_its_sample(engine: str) -> None:
    embeddings, rows, labels = problem(5, 11, 4, seed=2)
    others = F.normalize(torch.randn(5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(7)), dim=1)
    point = embeddings.clone().requires_grad_()
    losses, _ = margin_softmax(
        point, rows, labels, margin=CosFace(0.2), scale=16.0, engine=engine, aim=lambda own: F.normalize(own + others)
    )
    (gradient,) = torch.autograd.grad(losses.sum(), point)

    def loss(at: np.ndarray, i: int) -> float:
        own = rows.numpy()[labels[i]] + others.numpy()[i]
        x = at / np.linalg.norm(at)
        target = 16 * (x @ own / np.linalg.norm(own) - 0.2)
        negatives = sum(np.exp(16 * (x @ row)) for j, row in enumerate(rows.numpy()) if j != labels[i])
        return float(np.log(1 + negatives / np.exp(target)))

    for i in range(5):
        x = embeddings.numpy()[i]
        assert losses[i].item() == pytest.approx(loss(x, i), rel=1e-10)
        slopes = [(loss(x + 1e-6 * e, i) - loss(x - 1e-6 * e, i)) / 2e-6 for e in np.eye(4)]
        np.testing.assert_allclose(gradient[i].numpy(), slopes, atol=1e-6)


def test_a_stand_in_of_another_shape_and_smoothing_with_one_are_refused() -> None:
    embeddings, rows, labels = problem(3, 5, 4)
    with pytest.raises(UserError, match="one target a sample"):
        margin_softmax(embeddings, rows, labels, margin=ArcFace(0.3), scale=8.0, aim=lambda own: own[:, :2])
    with pytest.raises(UserError, match="smoothing to 0"):
        margin_softmax(embeddings, rows, labels, margin=ArcFace(0.3), scale=8.0, aim=lambda own: own, smoothing=0.1)
