from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from proxylesskd.errors import UserError
from proxylesskd.losses.adaptive_margin import AdaFace, CurricularFace, MagFace
from tests.reference import softmax as reference

COSINES = torch.linspace(-0.99, 0.99, 23, dtype=torch.float64)
NORMS = torch.linspace(2.0, 130.0, 23, dtype=torch.float64)


def test_adaface_is_its_equation() -> None:
    margin = AdaFace(0.4, concentration=0.333).eval()
    margin.mean.fill_(40.0)
    margin.deviation.fill_(25.0)
    found = margin(COSINES, NORMS).target
    for cosine, norm, value in zip(COSINES.tolist(), NORMS.tolist(), found.tolist(), strict=True):
        quality = min(1.0, max(-1.0, (min(norm, 100.0) - 40.0) / (25.0 + 1e-3) * 0.333))
        angle = min(math.pi, max(0.0, math.acos(cosine) - 0.4 * quality))
        assert value == pytest.approx(math.cos(angle) - (0.4 * quality + 0.4), abs=1e-6)


def test_adaface_follows_the_lengths_of_batches_while_training() -> None:
    margin = AdaFace(momentum=0.25)
    mean, deviation = 20.0, 100.0
    for seed in range(3):
        norms = 30 + 5 * torch.rand(8, generator=torch.Generator().manual_seed(seed))
        margin(torch.zeros(8), norms)
        mean = 0.75 * mean + 0.25 * float(np.mean(norms.numpy()))
        deviation = 0.75 * deviation + 0.25 * float(np.std(norms.numpy(), ddof=1))
    assert margin.mean.item() == pytest.approx(mean, rel=1e-5)
    assert margin.deviation.item() == pytest.approx(deviation, rel=1e-5)
    margin.eval()(torch.zeros(8), torch.full((8,), 90.0))
    assert margin.mean.item() == pytest.approx(mean, rel=1e-5)


def test_one_sample_has_no_deviation_and_moves_nothing() -> None:
    margin = AdaFace()
    margin(torch.zeros(1), torch.full((1,), 50.0))
    assert (margin.mean.item(), margin.deviation.item()) == (20.0, 100.0)


@pytest.mark.parametrize("margin", [AdaFace(), CurricularFace()])
def test_a_batch_that_is_not_finite_leaves_no_trace(margin: AdaFace | CurricularFace) -> None:
    before = {name: value.clone() for name, value in margin.state_dict().items()}
    broken = torch.tensor([0.1, float("nan"), 0.3])
    margin(broken, broken)
    for name, value in margin.state_dict().items():
        assert torch.equal(value, before[name])


def test_magface_is_its_equation() -> None:
    margin = MagFace(0.45, 0.8, 10.0, 110.0, 35.0)
    found = margin(COSINES, NORMS)
    assert found.penalty is not None
    for cosine, norm, value, penalty in zip(
        COSINES.tolist(), NORMS.tolist(), found.target.tolist(), found.penalty.tolist(), strict=True
    ):
        length = min(110.0, max(10.0, norm))
        assert value == pytest.approx(
            reference.arcface(cosine, (0.8 - 0.45) / 100.0 * (length - 10.0) + 0.45), abs=1e-9
        )
        assert penalty == pytest.approx(35.0 * (1 / length + length / 110.0**2))


def test_magface_passes_a_gradient_to_the_length() -> None:
    norms = torch.tensor([30.0, 60.0], dtype=torch.float64, requires_grad=True)
    cosine = torch.tensor([0.4, 0.7], dtype=torch.float64)

    def total(lengths: torch.Tensor) -> torch.Tensor:
        found = MagFace()(cosine, lengths)
        assert found.penalty is not None
        return found.target + found.penalty

    assert torch.autograd.gradcheck(total, norms)
    (slope,) = torch.autograd.grad(total(norms).sum(), norms)
    assert bool((slope != 0).all())


def test_curricularface_is_its_equation() -> None:
    margin = CurricularFace(0.5).eval()
    margin.t.fill_(0.3)
    found = margin(COSINES, NORMS)
    np.testing.assert_allclose(found.target, [reference.arcface(c, 0.5) for c in COSINES.tolist()], atol=1e-9)
    assert found.bend is not None
    assert torch.equal(found.bend.threshold, found.target)
    assert found.bend.t.item() == pytest.approx(0.3)


def test_the_curriculum_follows_the_mean_target_cosine() -> None:
    margin, t = CurricularFace(momentum=0.1), 0.0
    for level in (0.2, 0.5, 0.6):
        found = margin(torch.tensor([level, level + 0.1]), torch.ones(2))
        t = 0.9 * t + 0.1 * (level + 0.05)
        assert found.bend is not None
        assert found.bend.t.item() == pytest.approx(t, rel=1e-5)


def test_a_curriculum_below_zero_bends_as_zero() -> None:
    margin = CurricularFace(momentum=1.0)
    found = margin(torch.tensor([-0.5]), torch.ones(1))
    assert found.bend is not None
    assert found.bend.t.item() == 0.0


@pytest.mark.parametrize(
    "build",
    [
        lambda: AdaFace(4.0),
        lambda: AdaFace(momentum=0.0),
        lambda: CurricularFace(-0.1),
        lambda: CurricularFace(math.pi),
        lambda: CurricularFace(momentum=1.1),
        lambda: MagFace(0.8, 0.4),
        lambda: MagFace(a_low=0.0),
    ],
)
def test_wrong_settings_are_named(build: object) -> None:
    with pytest.raises(UserError, match="expected"):
        build()  # type: ignore[operator]
