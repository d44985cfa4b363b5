"""The loop against a plain one in numpy, and what it gives to the method, the teacher and the batches."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from proxylesskd.errors import UserError
from proxylesskd.teaching.taught import Taught
from proxylesskd.training.log import MetricsLog
from tests.training.pieces import (
    assert_equal,
    convolutional,
    double,
    fit_quietly,
    linear,
    make_batches,
    parameters_of,
    poison,
    read_rows,
)


def _numpy_training(
    weight: Any,
    bias: Any,
    batches: Any,
    *,
    steps: int,
    lr: float,
    warmup: int,
    clip: float,
    decay: float,
    momentum: float,
) -> Any:
    """Least squares by SGD with Nesterov momentum, warm-up, cosine, clipping and decay, in plain loops."""
    moving = None
    history = []
    for step, images, labels, _ in batches(0, steps):
        x = images.numpy().astype(np.float64).reshape(len(images), -1) / 127.5 - 1.0
        errors = x @ weight.T + bias - np.eye(5)[labels.numpy()]
        gradients = [errors.T @ x / len(x), errors.mean(0)]
        norm = math.sqrt(sum((g**2).sum() for g in gradients))
        gradients = [g * min(1.0, clip / (norm + 1e-6)) for g in gradients]
        gradients[0] = gradients[0] + decay * weight
        moving = gradients if moving is None else [momentum * m + g for m, g in zip(moving, gradients, strict=True)]
        if step < warmup:
            rate = lr * (step + 1) / warmup
        else:
            rate = lr * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup))) / 2
        weight = weight - rate * (gradients[0] + momentum * moving[0])
        bias = bias - rate * (gradients[1] + momentum * moving[1])
        history.append((0.5 * (errors**2).sum(1).mean(), norm, rate))
    return weight, bias, history


def test_equals_a_plain_loop_in_numpy(tmp_path: Path) -> None:
    method = linear()
    weight, bias = (p.detach().numpy().copy() for p in method.student.parameters())
    weight, bias, history = _numpy_training(
        weight, bias, make_batches(8), steps=12, lr=0.05, warmup=3, clip=2.0, decay=0.01, momentum=0.9
    )
    with MetricsLog(tmp_path / "m.jsonl") as log:
        fit_quietly(method, make_batches(8), prepare=double, clip=2.0, weight_decay=0.01, log=log, log_every=1)
    found = [p.detach().numpy() for p in method.student.parameters()]
    np.testing.assert_allclose(found[0], weight, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(found[1], bias, rtol=1e-9, atol=1e-12)
    assert any(norm > 2.0 for _, norm, _ in history)
    assert any(norm < 2.0 for _, norm, _ in history)
    logged = [(row["loss"], row["grad_norm"], row["lr"]) for row in read_rows(log.path)]
    np.testing.assert_allclose(logged, history, rtol=1e-5)


def test_accumulated_small_batches_equal_the_large_one() -> None:
    large, small, wrong = linear(), linear(), linear()
    fit_quietly(large, make_batches(8), prepare=double)
    fit_quietly(small, make_batches(2), prepare=double, accumulate=4)
    fit_quietly(wrong, make_batches(2), prepare=double)
    for a, b, c in zip(*(m.student.parameters() for m in (large, small, wrong)), strict=True):
        assert torch.allclose(a, b, rtol=1e-10, atol=1e-13)
        assert not torch.allclose(a, c, rtol=1e-3)


def test_method_sees_progress_and_channels_last() -> None:
    method = convolutional()
    fit_quietly(method, make_batches(8), steps=4, warmup=0, accumulate=2)
    assert [batch.progress for batch in method.seen] == [0, 0, 0.25, 0.25, 0.5, 0.5, 0.75, 0.75]
    assert all(batch.images.is_contiguous(memory_format=torch.channels_last) for batch in method.seen)
    assert all(p.is_contiguous() for p in method.student.parameters())  # as files want them
    assert all(batch.teacher_embeddings is None for batch in method.seen)


@pytest.mark.parametrize("need", ["teacher_embeddings", "teacher_norms", "teacher_maps"])
def test_a_method_hears_the_teacher_when_it_needs_to(need: str) -> None:
    def teach(images: Tensor, indices: Tensor, step: int) -> Taught:
        return Taught(images.float().mean((2, 3)), indices + 0.5 * step)

    method = linear()
    fit_quietly(method, make_batches(8), prepare=double, teach=teach)
    assert all(batch.teacher_embeddings is None for batch in method.seen)  # it does not
    method = linear()
    method.needs = frozenset({need})
    fit_quietly(method, make_batches(8), prepare=double, teach=teach, general=6)
    for number, batch in enumerate(method.seen):
        _, images, _, indices = next(iter(make_batches(8)(number, number + 1)))
        assert torch.equal(batch.teacher_embeddings, images.float().mean((2, 3)))
        assert torch.equal(batch.teacher_norms, indices + 0.5 * number)
        assert batch.general == 6
    with pytest.raises(UserError, match="found no teacher"):
        fit_quietly(method, make_batches(8), prepare=double)


def test_batches_are_closed_however_training_ends() -> None:
    closed, held = [], []

    def generate(start: int, stop: int) -> Iterator[Any]:
        try:
            yield from make_batches(8)(start, stop)
        finally:
            closed.append((start, stop))

    def batches(start: int, stop: int) -> Iterator[Any]:
        held.append(generate(start, stop))  # so that nobody but the loop closes it
        return held[-1]

    fit_quietly(linear(), batches, prepare=double, accumulate=3)
    with pytest.raises(UserError):
        fit_quietly(linear(), batches, prepare=poison(range(12)), max_bad_steps=1)
    assert closed == [(0, 36), (0, 12)]


def test_batches_that_end_early_or_skip_are_refused() -> None:
    with pytest.raises(UserError, match=r"expected micro-batch 5 .*found the end"):
        fit_quietly(linear(), lambda start, _: make_batches(8)(start, 5), prepare=double)
    with pytest.raises(UserError, match=r"expected micro-batch 0 .*found number 3"):
        fit_quietly(linear(), lambda _, stop: make_batches(8)(3, stop), prepare=double)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"accumulate": 0}, "accumulate"),
        ({"log_every": 0}, "log_every"),
        ({"steps_per_epoch": 0}, "steps_per_epoch"),
        ({"max_bad_steps": 0}, "max_bad_steps"),
        ({"schedule": "cosin"}, "cosine"),
        ({"optimiser": "sdg"}, "sgd"),
        ({"autocast": "fp32"}, "autocast"),
    ],
)
def test_wrong_settings_are_refused_before_anything_is_written(tmp_path: Path, wrong: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        fit_quietly(linear(), make_batches(8), prepare=double, checkpoints=tmp_path / "c", **wrong)
    assert not (tmp_path / "c").exists()


def test_no_global_flag_is_touched() -> None:
    def flags() -> tuple[Any, ...]:
        return (
            torch.get_num_threads(), torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark,
            torch.get_float32_matmul_precision(), torch.is_grad_enabled(), torch.get_default_dtype(),
        )  # fmt: skip

    before = flags()
    fit_quietly(linear(), make_batches(8), prepare=double)
    assert flags() == before


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu_in_bfloat16(tmp_path: Path) -> None:
    method = convolutional()
    result = fit_quietly(method, make_batches(8), device="cuda", checkpoints=tmp_path)
    assert result.finished
    assert result.skipped == 0
    assert all(p.device.type == "cuda" for p in method.student.parameters())
    again = convolutional()
    assert fit_quietly(again, make_batches(8), device="cuda", checkpoints=tmp_path, resume=True).resumed_from == 12
    assert_equal(parameters_of(method), parameters_of(again))
