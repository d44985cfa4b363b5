"""One update: what the batch holds, what the gradient is, what a bad step leaves."""

from __future__ import annotations

import contextlib
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from proxylesskd.errors import UserError
from proxylesskd.methods.method import Batch
from proxylesskd.teaching.taught import Taught
from proxylesskd.training.optimiser import make_optimiser
from proxylesskd.training.state import TrainState
from proxylesskd.training.update import Outcome, make_autocast, require_needs, running_statistics, to_batch, update
from tests.training.pieces import LeastSquares, convolutional, linear

CPU = torch.device("cpu")


def _state(method: LeastSquares, **settings: Any) -> TrainState:
    named = list(method.trainable())
    optimiser = make_optimiser(named, **{"lr": 0.0, **settings})
    return TrainState(method, optimiser, [p for _, p in named], CPU)


def _batch(size: int = 8, dtype: torch.dtype = torch.float32, fill: float | None = None) -> Batch:
    generator = torch.Generator().manual_seed(size)
    images = torch.randn(size, 3, 4, 4, generator=generator, dtype=dtype)
    if fill is not None:
        images[0, 0, 0, 0] = fill
    return Batch(images, torch.arange(size) % 5, torch.arange(size) + 100)


def _update(state: TrainState, *batches: Batch, **settings: Any) -> Outcome:
    defaults = {"lr": 0.1, "clip": 5.0, "accumulate": len(batches), "autocast": contextlib.nullcontext}
    return update(state, batches, **{**defaults, **settings})


@pytest.mark.parametrize("maps", [(), (torch.zeros(2, 1, 4, 4),)])
def test_batch_is_augmented_then_shown_to_the_teacher_then_normalised(maps: tuple[Tensor, ...]) -> None:
    images = torch.full((2, 3, 4, 4), 10, dtype=torch.uint8)
    calls = []

    def augment(images: Tensor, indices: Tensor, step: int) -> Tensor:
        calls.append(("augment", indices.tolist(), step))
        return images + 5

    def teach(images: Tensor, indices: Tensor, step: int) -> Taught:
        calls.append(("teach", indices.tolist(), step))
        assert images.dtype == torch.uint8
        assert not torch.is_grad_enabled()
        return Taught(images.float().mean((2, 3)), images.float().amax((1, 2, 3)), maps)

    def prepare(images: Tensor, indices: Tensor, step: int) -> Tensor:
        calls.append(("prepare", indices.tolist(), step))
        return images.float() * 2

    batch = to_batch(
        (77, images, torch.tensor([3, 4]), torch.tensor([8, 9])),
        step=5, steps=20, device=CPU, channels_last=True, prepare=prepare, augment=augment, teach=teach,
        general=1,
    )  # fmt: skip
    assert calls == [("augment", [8, 9], 5), ("teach", [8, 9], 5), ("prepare", [8, 9], 5)]
    assert torch.equal(batch.images, torch.full((2, 3, 4, 4), 30.0))
    assert batch.images.is_contiguous(memory_format=torch.channels_last)
    assert batch.teacher_embeddings is not None
    assert torch.equal(batch.teacher_embeddings, torch.full((2, 3), 15.0))
    assert batch.teacher_norms is not None
    assert batch.teacher_norms.tolist() == [15.0, 15.0]
    assert batch.teacher_maps == (maps or None)
    assert batch.general == 1
    assert (batch.labels.tolist(), batch.indices.tolist(), batch.progress) == ([3, 4], [8, 9], 0.25)


@pytest.mark.parametrize("clip", [0.0, 0.01, 1e9])
def test_gradient_is_clipped_by_its_global_norm(clip: float) -> None:
    method = linear()
    batch = _batch(dtype=torch.float64)
    method.step(batch)["loss"].backward()
    gradients = [p.grad.clone() for p in method.student.parameters()]
    norm = math.sqrt(sum(float((g * g).sum()) for g in gradients))
    before = [p.detach().clone() for p in method.student.parameters()]
    outcome = _update(_state(method, momentum=0.0, nesterov=False, weight_decay=0.0), batch, lr=0.5, clip=clip)
    assert outcome.values["grad_norm"] == pytest.approx(norm, rel=1e-6)
    factor = clip / norm if 0 < clip < norm else 1.0
    for p, old, gradient in zip(method.student.parameters(), before, gradients, strict=True):
        assert torch.allclose(p, old - 0.5 * factor * gradient, rtol=1e-4, atol=1e-12)


def test_values_are_means_over_micro_batches() -> None:
    method = linear()
    first, second = _batch(4, torch.float64), _batch(6, torch.float64)
    expected = [method.step(batch) for batch in (first, second)]
    outcome = _update(_state(method), first, second)
    for name in ("loss", "accuracy", "bias"):
        assert outcome.values[name] == pytest.approx((expected[0][name] + expected[1][name]).item() / 2, rel=1e-6)
    assert outcome.indices == [*range(100, 104), *range(100, 106)]


@pytest.mark.parametrize("fill", [float("nan"), float("inf")])
def test_a_bad_step_leaves_no_trace(fill: float | None) -> None:
    method = convolutional()
    state = _state(method, momentum=0.9)
    assert _update(state, _batch(), clip=5.0).finite
    before = {name: value.clone() for name, value in method.student.state_dict().items()}
    momenta = [state.optimiser.state[p]["momentum_buffer"].clone() for p in state.parameters]
    assert not _update(state, _batch(), _batch(fill=fill)).finite
    for name, value in method.student.state_dict().items():
        assert torch.equal(value, before[name]), name
    for p, momentum in zip(state.parameters, momenta, strict=True):
        assert torch.equal(state.optimiser.state[p]["momentum_buffer"], momentum)
    after = _update(state, _batch())
    assert after.finite
    assert not torch.equal(method.student[0].weight, before["0.weight"])


def test_a_finite_loss_with_an_infinite_gradient_is_bad() -> None:
    method = linear()
    plain = method.step
    # √x at 0: the value is finite, its derivative is not
    method.step = lambda batch: {"loss": (0 * plain(batch)["loss"]).sqrt()}
    before = [p.detach().clone() for p in method.student.parameters()]
    outcome = _update(_state(method), _batch(dtype=torch.float64))
    assert outcome.values["loss"] == 0.0
    assert not outcome.finite
    assert all(torch.equal(a, b) for a, b in zip(before, method.student.parameters(), strict=True))


def test_running_statistics_are_those_of_batch_norm_alone() -> None:
    network = nn.Sequential(nn.BatchNorm1d(2), nn.BatchNorm1d(3, track_running_stats=False), nn.Linear(2, 2))
    network[2].register_buffer("table", torch.zeros(9))
    assert [tuple(buffer.shape) for buffer in running_statistics(network)] == [(2,), (2,), ()]


@pytest.mark.parametrize(
    ("choice", "dtype"), [("auto", torch.float32), ("off", torch.float32), ("bf16", torch.bfloat16)]
)
def test_autocast_on_a_cpu_only_when_asked(choice: str, dtype: torch.dtype) -> None:
    with make_autocast(choice, CPU)():
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == dtype


def test_unknown_autocast_names_the_nearest() -> None:
    with pytest.raises(UserError, match="did you mean 'bf16'"):
        make_autocast("fp16", CPU)


def test_a_batch_without_a_teacher_holds_nothing_of_one() -> None:
    loaded = (0, torch.zeros(2, 3, 4, 4, dtype=torch.uint8), torch.tensor([3, 4]), torch.tensor([8, 9]))
    batch = to_batch(
        loaded, step=0, steps=1, device=CPU, channels_last=False, prepare=lambda images, *_: images.float()
    )
    assert batch.general is batch.teacher_embeddings is batch.teacher_norms is batch.teacher_maps is None


def _silent(images: Tensor, indices: Tensor, step: int) -> Taught:
    return Taught(images)


def test_needs_are_met_or_refused() -> None:
    method = linear()
    require_needs(method, None)
    for need in ("teacher_embeddings", "teacher_norms", "teacher_maps"):
        method.needs = frozenset({need, "balanced"})
        require_needs(method, _silent)
        with pytest.raises(UserError, match=f"needs {need}, found no teacher"):
            require_needs(method, None)
    for need in ("student_maps", "balanced", "balanced_half"):  # nothing that a teacher says
        method.needs = frozenset({need})
        require_needs(method, None)
    method.needs = frozenset({"teacher_embedding"})
    with pytest.raises(UserError, match="did you mean 'teacher_embeddings'"):
        require_needs(method, _silent)
