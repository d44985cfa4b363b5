from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from proxylesskd.errors import UserError
from proxylesskd.losses.margin import (
    ArcFace,
    Combined,
    CosFace,
    Margin,
    SampleMargin,
    arcface_target,
    combined_target,
    margin_distillation_margins,
)
from tests.reference import softmax as reference

COSINES = torch.linspace(-0.999, 0.999, 41, dtype=torch.float64)


def target_of(margin: Margin, cosine: torch.Tensor) -> torch.Tensor:
    return margin(cosine, torch.ones_like(cosine)).target


@pytest.mark.parametrize("margin", [0.0, 0.3, 0.5, 1.2])
def test_arcface_is_the_cosine_of_the_shifted_angle(margin: float) -> None:
    expected = [reference.arcface(float(c), margin) for c in COSINES]
    np.testing.assert_allclose(target_of(ArcFace(margin), COSINES).numpy(), expected, rtol=0, atol=1e-12)


def test_arcface_is_monotonic_through_the_guard() -> None:
    values = target_of(ArcFace(0.5), torch.linspace(-1, 1, 2001, dtype=torch.float64))
    assert bool((values.diff() > 0).all())


def test_arcface_gradient_is_the_derivative() -> None:
    inside = torch.linspace(-0.8, 0.98, 20, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda c: arcface_target(c, 0.5), inside)


def test_arcface_gradient_stays_finite_at_the_ends() -> None:
    ends = torch.tensor([-1.0, 1.0, 1.0 + 1e-7], requires_grad=True)
    target_of(ArcFace(0.5), ends).sum().backward()
    assert ends.grad is not None
    assert bool(torch.isfinite(ends.grad).all())


@pytest.mark.parametrize("kind", [ArcFace(0.5, "straight-through"), Combined(1.2, 0.3, 0.1, "straight-through")])
def test_straight_through_has_the_value_of_the_margin_and_the_gradient_of_the_cosine(kind: ArcFace | Combined) -> None:
    cosines = COSINES.clone().requires_grad_()
    values = target_of(kind, cosines)
    values.sum().backward()
    analytic = ArcFace(0.5) if isinstance(kind, ArcFace) else Combined(1.2, 0.3, 0.1)
    torch.testing.assert_close(values.detach(), target_of(analytic, COSINES))
    assert cosines.grad is not None
    assert bool((cosines.grad == 1).all())


def test_cosface_subtracts() -> None:
    expected = [reference.cosface(float(c), 0.35) for c in COSINES]
    np.testing.assert_allclose(target_of(CosFace(0.35), COSINES), expected)


@pytest.mark.parametrize(("m1", "m2", "m3"), [(1.0, 0.5, 0.0), (1.35, 0.0, 0.0), (1.0, 0.0, 0.35), (4.0, 0.2, 0.1)])
def test_combined_is_its_equation(m1: float, m2: float, m3: float) -> None:
    for cosine, value in zip(COSINES.tolist(), target_of(Combined(m1, m2, m3), COSINES).tolist(), strict=True):
        angle, turns = m1 * math.acos(cosine) + m2, 0
        while angle - turns * math.pi >= math.pi:
            turns += 1
        assert value == pytest.approx((-1) ** turns * math.cos(angle) - 2 * turns - m3, abs=1e-9)


def test_combined_falls_with_the_angle_and_has_its_derivative() -> None:
    values = combined_target(torch.linspace(-0.9999, 0.9999, 4001, dtype=torch.float64), 3.0, 0.3, 0.1)
    assert bool((values.diff() > 0).all())
    inside = torch.tensor([-0.7, -0.2, 0.1, 0.6, 0.95], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda c: combined_target(c, 1.5, 0.3, 0.1), inside)


def test_every_sample_may_have_a_margin_of_its_own() -> None:
    margins = torch.linspace(0.0, 1.2, len(COSINES), dtype=torch.float64)
    expected = [reference.arcface(c, m) for c, m in zip(COSINES.tolist(), margins.tolist(), strict=True)]
    np.testing.assert_allclose(target_of(SampleMargin(margins), COSINES), expected, atol=1e-12)
    with pytest.raises(UserError, match=r"one margin a sample \[41\], found \[3\]"):
        target_of(SampleMargin(margins[:3]), COSINES)


def test_margins_of_margin_distillation() -> None:
    cosines = torch.tensor([0.8, 0.4, -0.2])
    np.testing.assert_allclose(margin_distillation_margins(cosines), [0.5, 0.35, 0.2], rtol=1e-6)
    np.testing.assert_allclose(margin_distillation_margins(torch.tensor([-0.3, -0.1])), [0.2, 0.2], rtol=1e-6)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: ArcFace(math.pi), "radians"),
        (lambda: CosFace(-0.1), "CosFace margin"),
        (lambda: CosFace(2.0), "CosFace margin"),
        (lambda: Combined(m1=0.5), "m1 >= 1"),
        (lambda: Combined(gradient="exact"), "'straight-through', found 'exact'"),  # type: ignore[arg-type]
    ],
)
def test_wrong_margins_are_named(build: object, message: str) -> None:
    with pytest.raises(UserError, match=message):
        build()  # type: ignore[operator]
