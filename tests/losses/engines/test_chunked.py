from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from proxylesskd.losses.adaptive_margin import CurricularFace
from proxylesskd.losses.engines.chunked import CHUNK, LARGE, Chunked, sums
from proxylesskd.losses.engines.engine import Bend
from proxylesskd.losses.frozen_softmax import frozen_softmax
from proxylesskd.losses.margin import ArcFace, CosFace
from proxylesskd.losses.rows import Rows, quantise, split
from tests.losses.problems import loss_and_gradient, plain_arcface, problem, relative

# what float32 can hold of a loss that is nearly nothing: the gradient of samples that are all but solved
FLOOR = 1e-7
# float32 holds a logit of 64 to 64 eps, and a small loss moves by as much of itself as its logits move
LOGIT = 64 * torch.finfo(torch.float32).eps


@settings(max_examples=40, deadline=None)
@given(
    batch=st.integers(1, 40),
    count=st.integers(2, 2 * CHUNK + 3),
    dim=st.integers(2, 24),
    target=st.floats(-0.95, 0.9),
    seed=st.integers(0, 10_000),
    margin=st.sampled_from([0.0, 0.3, 0.5, 1.4]),
)
def test_float32_agrees_with_float64_and_is_not_worse_than_plain_pytorch(
    batch: int, count: int, dim: int, target: float, seed: int, margin: float
) -> None:
    embeddings, rows, labels = problem(batch, count, dim, seed, target)
    # the truth about the numbers that float32 was given
    embeddings, rows = embeddings.float(), rows.float()
    exact = loss_and_gradient(embeddings.double(), rows.double(), labels, ArcFace(margin), "reference")
    found = loss_and_gradient(embeddings, rows, labels, ArcFace(margin), "chunked")
    plain = plain_arcface(embeddings, rows, labels, margin, 64.0)
    for got, want, naive in zip(found, exact, plain, strict=True):
        # where both lose digits, which of the two loses more is chance: half as much again is no worse
        bound = max(LOGIT * float(want.norm()), 1.5 * float((naive - want).norm()), FLOOR)
        assert float((got - want).norm()) <= bound


@pytest.mark.parametrize("target", [0.05, 0.3, 0.6, 0.8, 0.9])
@pytest.mark.parametrize("count", [CHUNK - 1, 2 * CHUNK + 77])
def test_float32_within_5e_6_where_a_face_recogniser_works(target: float, count: int) -> None:
    embeddings, rows, labels = problem(48, count, 512, seed=2, target=target)
    embeddings, rows = embeddings.float(), rows.float()
    exact = loss_and_gradient(embeddings.double(), rows.double(), labels, ArcFace(0.5), "reference")
    for found, want in zip(loss_and_gradient(embeddings, rows, labels, ArcFace(0.5), "chunked"), exact, strict=True):
        assert relative(found, want) < 5e-6


@pytest.mark.parametrize("batch", [LARGE, LARGE + 1])
@pytest.mark.parametrize("count", [CHUNK // 2, CHUNK + 1])
def test_large_batches_in_smaller_chunks(batch: int, count: int) -> None:
    embeddings, rows, labels = problem(batch, count, 16, seed=4, target=0.5)
    exact = loss_and_gradient(embeddings, rows, labels, ArcFace(0.5), "reference")
    for found, want in zip(loss_and_gradient(embeddings, rows, labels, ArcFace(0.5), "chunked"), exact, strict=True):
        assert relative(found, want) < 1e-12


@pytest.mark.parametrize("target", [0.05, 0.3, 0.6, 0.8, 0.9])
@pytest.mark.parametrize(("store", "bound"), [(split, 6e-3), (quantise, 1e-2)])
def test_compact_rows_against_the_rows_they_were_made_from(target: float, store: object, bound: float) -> None:
    embeddings, rows, labels = problem(48, 6001, 512, seed=3, target=target)
    exact = loss_and_gradient(embeddings, rows, labels, ArcFace(0.5), "reference")
    stored: Rows = store(rows)  # type: ignore[operator]
    found = loss_and_gradient(embeddings.float(), stored, labels, ArcFace(0.5), "chunked")
    assert relative(found[0], exact[0]) < bound
    assert relative(found[1], exact[1]) < bound


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_tensors_are_raised_to_float32(dtype: torch.dtype) -> None:
    embeddings, rows, labels = problem(32, 5000, 64, seed=7, target=0.5)
    embeddings, kept = embeddings.float(), rows.to(dtype)
    exact = loss_and_gradient(embeddings.double(), kept.double(), labels, CosFace(0.35), "reference")
    for found, want in zip(loss_and_gradient(embeddings, kept, labels, CosFace(0.35), "chunked"), exact, strict=True):
        assert relative(found, want) < 5e-6


@pytest.mark.parametrize("target", [0.6, 0.7, 0.8, 0.9])
def test_negatives_survive_a_dominant_target(target: float) -> None:
    """Where a target taken out of a finished sum would leave a loss of exactly zero."""
    embeddings, rows, labels = problem(16, 9000, 64, seed=5, target=target)
    exact, _ = loss_and_gradient(embeddings, rows, labels, ArcFace(0.5), "reference")
    single, _ = loss_and_gradient(embeddings.float(), rows.float(), labels, ArcFace(0.5), "chunked")
    assert float(exact.min()) > 0
    np.testing.assert_allclose(single.numpy(), exact.numpy(), rtol=2e-4)


@pytest.mark.parametrize(("scale", "target"), [(100.0, -0.5), (100.0, 0.9), (300.0, 0.2)])
def test_a_large_scale_neither_overflows_nor_loses_the_negatives(scale: float, target: float) -> None:
    embeddings, rows, labels = problem(8, CHUNK + 500, 16, target=target)
    exact = loss_and_gradient(embeddings, rows, labels, CosFace(0.35), "reference", scale)
    found = loss_and_gradient(embeddings.float(), rows.float(), labels, CosFace(0.35), "chunked", scale)
    assert relative(found[0], exact[0]) < 1e-5
    assert relative(found[1], exact[1]) < 1e-4


def test_the_running_maximum_begins_behind_chunks_that_are_masked_whole() -> None:
    unit, rows, _ = problem(3, CHUNK + 5, 4)
    unit = F.normalize(unit, dim=1)
    samples = torch.arange(3).repeat_interleave(CHUNK)
    masked = (samples, torch.arange(CHUNK).repeat(3))
    found = sums(unit, rows, masked, 200.0)
    expected = torch.logsumexp(200.0 * unit @ rows[CHUNK:].T, dim=1)
    torch.testing.assert_close(found.total.log() + found.shift, expected)


def test_any_pairs_may_be_masked() -> None:
    unit, rows, _ = problem(4, 2 * CHUNK + 1, 6, seed=4)
    unit = F.normalize(unit, dim=1)
    hidden = torch.rand(4, 2 * CHUNK + 1, generator=torch.Generator().manual_seed(0)) < 0.3
    found = sums(unit, rows, tuple(hidden.nonzero().T), 32.0)  # type: ignore[arg-type]
    weights = torch.exp(32.0 * unit @ rows.T) * ~hidden
    torch.testing.assert_close(found.total, weights.sum(dim=1))
    torch.testing.assert_close(found.weighted, weights @ rows)
    torch.testing.assert_close(found.best, (unit @ rows.T).masked_fill(hidden, -2.0).amax(dim=1))


def test_rows_outside_are_passed_over() -> None:
    unit, rows, _ = problem(3, 7, 4)
    unit = F.normalize(unit, dim=1)
    outside = sums(unit, rows, (torch.arange(3), torch.tensor([-4, 2, 7])), 8.0)
    inside = sums(unit, rows, (torch.tensor([1]), torch.tensor([2])), 8.0)
    assert torch.equal(outside.total, inside.total)


@pytest.mark.parametrize("engine", ["chunked", "reference"])
def test_a_bend_is_a_loop_over_negatives(engine: str) -> None:
    embeddings, rows, labels = problem(6, 40, 5, seed=8, target=0.1)
    margin = CurricularFace(0.5).eval()
    margin.t.fill_(0.375)

    def total(points: np.ndarray) -> np.ndarray:
        result = []
        for point, label in zip(points, labels.tolist(), strict=True):
            cosines = rows.numpy() @ (point / np.linalg.norm(point))
            angle = np.arccos(cosines[label]) + 0.5
            target = np.cos(angle) if angle <= np.pi else cosines[label] - 0.5 * np.sin(0.5)
            logits = [c * (0.375 + c) if c > target else c for c in cosines]
            logits[label] = target
            result.append(np.log(sum(np.exp(16.0 * logit) for logit in logits)) - 16.0 * target)
        return np.array(result)

    losses, gradient = loss_and_gradient(embeddings, rows, labels, margin, engine, 16.0)
    np.testing.assert_allclose(losses.numpy(), total(embeddings.numpy()), rtol=1e-9)
    numeric = np.zeros(embeddings.shape)
    for index in np.ndindex(*embeddings.shape):
        step = np.zeros(embeddings.shape)
        step[index] = 1e-6
        difference = total(embeddings.numpy() + step) - total(embeddings.numpy() - step)
        numeric[index] = difference[index[0]] / 2e-6
    np.testing.assert_allclose(gradient.numpy(), numeric, atol=2e-6)


def test_a_bend_through_float32_and_many_chunks() -> None:
    embeddings, rows, labels = problem(16, 2 * CHUNK + 9, 32, seed=9, target=0.3)
    margin = CurricularFace(0.5).eval()
    margin.t.fill_(0.6)
    embeddings, rows = embeddings.float(), rows.float()
    exact = loss_and_gradient(embeddings.double(), rows.double(), labels, margin, "reference")
    found = loss_and_gradient(embeddings, rows, labels, margin, "chunked")
    assert relative(found[0], exact[0]) < 5e-6
    assert relative(found[1], exact[1]) < 5e-6


def test_rows_may_lie_in_a_file(tmp_path: Path) -> None:
    embeddings, rows, labels = problem(5, CHUNK + 11, 8)
    np.save(tmp_path / "rows.npy", rows.float().numpy())
    mapped = torch.from_numpy(np.load(tmp_path / "rows.npy", mmap_mode="c"))
    found = loss_and_gradient(embeddings.float(), mapped, labels, ArcFace(), "chunked")
    expected = loss_and_gradient(embeddings.float(), rows.float(), labels, ArcFace(), "chunked")
    assert torch.equal(found[1], expected[1])


@pytest.mark.parametrize("store", [lambda rows: rows, quantise, split])
def test_the_mean_row(store: object) -> None:
    rows = problem(1, CHUNK + 40, 7)[1].float()
    stored: Rows = store(rows)  # type: ignore[operator]
    torch.testing.assert_close(Chunked().mean_row(stored, torch.float32), rows.mean(dim=0), atol=2e-4, rtol=0)
    assert Chunked().count(stored) == CHUNK + 40


class _Largest(torch.utils._python_dispatch.TorchDispatchMode):
    """Remembers how many numbers the largest tensor holds that is not a view of ``known``."""

    def __init__(self, known: Tensor) -> None:
        super().__init__()
        self.known, self.numbers = known.untyped_storage().data_ptr(), 0

    def __torch_dispatch__(self, function: object, types: object, args: object = (), kwargs: object = None) -> object:
        result = function(*args, **(kwargs or {}))  # type: ignore[operator, misc, dict-item]
        if isinstance(result, Tensor) and result.untyped_storage().data_ptr() != self.known:
            self.numbers = max(self.numbers, result.numel())
        return result


@pytest.mark.parametrize("store", [lambda rows: rows, quantise, split])
def test_no_tensor_of_a_step_grows_with_the_number_of_identities(store: object) -> None:
    embeddings, rows, labels = problem(16, 12 * CHUNK, 8)
    stored: Rows = store(rows.float())  # type: ignore[operator]
    with _Largest(getattr(stored, "codes", stored)) as largest:
        loss = frozen_softmax(embeddings.float().requires_grad_(), stored, labels, margin=ArcFace(), engine="chunked")
        loss.backward()
    assert 0 < largest.numbers <= CHUNK * 16


@pytest.mark.parametrize("bend", [None, Bend(torch.full((2,), -0.9), torch.tensor(0.5))])
def test_two_identities_have_one_negative(bend: Bend | None) -> None:
    unit, rows, _ = problem(2, 2, 3)
    unit = F.normalize(unit, dim=1)
    found = sums(unit, rows, (torch.arange(2), torch.tensor([0, 1])), 10.0, bend)
    cosine = torch.stack([unit[0] @ rows[1], unit[1] @ rows[0]])
    if bend is not None:
        cosine = torch.where(cosine > -0.9, cosine * (0.5 + cosine), cosine)
    torch.testing.assert_close(found.total, torch.exp(10 * cosine))
