from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from proxylesskd.classifier.embedded import EmbeddedSource
from proxylesskd.classifier.fit import fit_rows, move_on_sphere, row_gradient
from proxylesskd.data.sampler import batch_indices
from proxylesskd.errors import UserError
from proxylesskd.losses.margin import ArcFace, CosFace

Array = npt.NDArray[np.float64]
DIM = 16


def _unit(values: Array) -> Array:
    return values / np.linalg.norm(values, axis=-1, keepdims=True)


def _source(views: Array, labels: list[int], identities: int) -> EmbeddedSource:
    names = [f"id-{number}" for number in range(identities)]
    return EmbeddedSource(views.astype(np.float32), np.array(labels), names, "teacher", "t-1")


def _lookalikes(seed: int, images: int, pairs: int = 6) -> tuple[Array, list[int]]:
    """Pairs of identities close to each other, whose images scatter most along one direction that says nothing."""
    means = np.random.default_rng(0)
    noise = np.random.default_rng(seed)
    nuisance = _unit(means.normal(size=DIM))
    views, labels = [], []
    for pair in range(pairs):
        middle = _unit(means.normal(size=DIM))
        for side in (0, 1):
            own = _unit(middle + 0.25 * _unit(means.normal(size=DIM)))
            for _ in range(images):
                scatter = 0.9 * nuisance * noise.normal() + 0.03 * noise.normal(size=DIM)
                views.append(np.stack([_unit(own + scatter), _unit(own + scatter + 0.02 * noise.normal(size=DIM))]))
                labels.append(2 * pair + side)
    return np.stack(views), labels


def _centres(source: EmbeddedSource) -> Tensor:
    rows = torch.zeros(len(source.identities), source.dim)
    for embeddings, labels, _ in source.chunks():
        rows.index_add_(0, labels, embeddings)
    return F.normalize(rows, dim=1)


def _separation(rows: Tensor, source: EmbeddedSource) -> tuple[float, float]:
    """Top-1 through the rows, and the mean of own minus nearest other cosine."""
    margins = []
    for view, label in zip(source.views[:, 0], source.labels, strict=True):
        cosines = [float(view @ row) for row in rows.numpy()]
        margins.append(cosines[label] - max(c for other, c in enumerate(cosines) if other != label))
    return float(np.mean([m > 0 for m in margins])), float(np.mean(margins))


def _step_by_loops(x: Array, labels: list[int], weights: Array, rows: Array, start: Array, anchor: float) -> Array:
    """The gradient of Σ w (-log softmax with an additive cosine margin + anchor s (1 - cos)), derived by hand."""
    scale, margin = 8.0, 0.35
    gradient = np.zeros_like(rows)
    for sample, label in enumerate(labels):
        logits = np.array([scale * float(x[sample] @ row) for row in rows])
        logits[label] -= scale * margin
        chance = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
        for row in range(len(rows)):
            gradient[row] += weights[sample] * scale * (chance[row] - (row == label)) * x[sample]
        gradient[label] -= weights[sample] * anchor * scale * start[label]
    return gradient


@pytest.mark.parametrize("anchor", [0.0, 0.7])
def test_gradient_against_loops(anchor: float) -> None:
    random = np.random.default_rng(4)
    x, rows, start = (_unit(random.normal(size=(n, DIM))) for n in (9, 5, 5))
    labels, weights = [0, 1, 2, 3, 3, 1, 0, 0, 3], random.uniform(0, 1, 9)
    tensors = [torch.tensor(a, dtype=torch.float32) for a in (x, weights, rows, start)]
    found = row_gradient(tensors[0], torch.tensor(labels), *tensors[1:], margin=CosFace(0.35), scale=8.0, anchor=anchor)
    np.testing.assert_allclose(found, _step_by_loops(x, labels, weights, rows, start, anchor), atol=2e-5)


def test_a_whole_pass_against_loops() -> None:
    """Few samples are taken one by one: each step goes along the sphere, by the gradient over the identity's weight."""
    random = np.random.default_rng(5)
    views, labels = _unit(random.normal(size=(7, 2, DIM))), [0, 1, 2, -1, 0, 1, 1]
    weights, start = np.array([1, 0.5, 0.25, 1, 0, 1, 1]), _unit(random.normal(size=(4, DIM)))
    found = fit_rows(
        _source(views, labels, 4),
        torch.tensor(3 * start),
        weights=torch.tensor(weights),
        margin=CosFace(0.35),
        scale=8.0,
        epochs=1,
        learning_rate=0.3,
        anchor=0.2,
    )
    used = [(i, v) for i in range(7) for v in range(2) if labels[i] >= 0 and weights[i] > 0]
    rows = start.copy()
    for step in range(10):
        image, view = used[batch_indices(step, length=10, batch=1, seed=0)[0]]
        gradient = _step_by_loops(views[[image], view], [labels[image]], weights[[image]], rows, start, 0.2)
        for row in range(3):  # the fourth identity has no image
            total = sum(weights[i] for i, _ in used if labels[i] == row)
            tangent = gradient[row] - (gradient[row] @ rows[row]) * rows[row]
            rows[row] = _unit(rows[row] - 0.3 / 1.2 / 8.0 * (1 - step / 10) / total * tangent)
    np.testing.assert_allclose(found, rows, atol=1e-6)


def test_confusable_identities_are_told_apart_better_on_unseen_images() -> None:
    views, labels = _lookalikes(1, 12)
    source, unseen = _source(views, labels, 12), _source(*_lookalikes(2, 12), 12)
    centres = _centres(source)
    fitted = fit_rows(source, centres, epochs=15, batch=64)
    (top_before, gap_before), (top_after, gap_after) = _separation(centres, unseen), _separation(fitted, unseen)
    assert top_after > top_before + 0.05
    assert gap_after > gap_before + 0.02
    torch.testing.assert_close(fitted.norm(dim=1), torch.ones(12))


def test_equal_arguments_give_equal_bits_and_another_seed_does_not() -> None:
    source = _source(*_lookalikes(1, 5), 12)
    first, again = (fit_rows(source, _centres(source), epochs=2, batch=16, seed=3) for _ in range(2))
    assert torch.equal(first, again)
    assert not torch.equal(first, fit_rows(source, _centres(source), epochs=2, batch=16, seed=4))


def test_rows_without_images_keep_their_start() -> None:
    views, labels = _lookalikes(1, 4)
    labels = [-1 if label == 3 else label for label in labels]
    weights = torch.tensor([0.0 if label == 5 else 1.0 for label in labels])
    source = _source(views, labels, 12)
    start = torch.tensor(_unit(np.random.default_rng(1).normal(size=(12, DIM))), dtype=torch.float32)
    fitted = fit_rows(source, start, epochs=3, batch=16, weights=weights)
    moved = [row for row in range(12) if not torch.equal(fitted[row], F.normalize(start, dim=1)[row])]
    assert moved == [row for row in range(12) if row not in (3, 5)]
    nothing = _source(views, [-1] * len(labels), 12)
    assert torch.equal(fit_rows(nothing, start), F.normalize(start, dim=1))


def test_more_epochs_come_closer_to_rest() -> None:
    source = _source(*_lookalikes(1, 8), 12)
    x = torch.tensor(source.views.reshape(-1, DIM))
    labels = torch.from_numpy(source.labels).repeat_interleave(2)

    def unrest(rows: Tensor) -> float:
        options = {"margin": ArcFace(0.5), "scale": 16.0, "anchor": 0.5}
        gradient = row_gradient(x, labels, torch.ones(len(x)), rows, _centres(source), **options)
        return float((gradient - (gradient * rows).sum(1, keepdim=True) * rows).norm())

    fit = [fit_rows(source, _centres(source), epochs=n, batch=32, scale=16.0, anchor=0.5) for n in (1, 16)]
    assert unrest(fit[1]) < 0.2 * unrest(fit[0]) < unrest(_centres(source))


def test_the_anchor_holds_rows_at_their_start() -> None:
    source = _source(*_lookalikes(1, 8), 12)
    centres = _centres(source)
    kept = [float((fit_rows(source, centres, anchor=a) * centres).sum(1).mean()) for a in (0.0, 1.0, 10.0)]
    assert kept == sorted(kept)
    assert kept[2] - kept[0] > 0.01


def test_a_rate_of_zero_keeps_every_bit() -> None:
    rows = torch.nn.functional.normalize(torch.randn(3, 5, generator=torch.Generator().manual_seed(0)), dim=1)
    moved = move_on_sphere(rows, torch.ones(3, 5), torch.tensor([0.0, 0.1, 0.0]))
    assert [torch.equal(moved[i], rows[i]) for i in range(3)] == [True, False, True]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rows": torch.eye(3)}, r"expected rows \[12, 16\].*found \[3, 3\]"),
        ({"rows": torch.ones(12, DIM, dtype=torch.int64)}, "int64"),
        ({"weights": torch.ones(3)}, r"each of the 24 images, found \[3\] from 1 to 1"),
        ({"weights": torch.full((24,), 1.5)}, "from 1.5 to 1.5"),
        ({"epochs": 0}, "expected epochs > 0, found 0"),
        ({"batch": 0}, "expected batch > 0"),
        ({"learning_rate": float("nan")}, "expected learning_rate > 0, found nan"),
        ({"anchor": -1.0}, "expected anchor >= 0, found -1.0"),
        ({"scale": 0.0}, "expected scale > 0"),
    ],
)
def test_wrong_input(options: dict, message: str) -> None:
    source = _source(*_lookalikes(1, 2), 12)
    with pytest.raises(UserError, match=message):
        fit_rows(source, **{"rows": _centres(source), **options})
